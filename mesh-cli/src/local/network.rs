//! Links, addresses and routes over netlink: a bridge in the supervisor's namespace, a veth pair per pod.

use std::net::Ipv4Addr;

use anyhow::Context as _;
use futures_util::TryStreamExt as _;
use rtnetlink::{Handle, LinkBridge, LinkUnspec, LinkVeth, RouteMessageBuilder};
use rustix::process::Pid;

/// The bridge's address: the control plane and every pod's default route.
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);
const PREFIX: u8 = 16;
const BRIDGE: &str = "mesh0";

/// The bridge that joins the pods.
pub(crate) struct Network {
    handle: Handle,
    bridge: u32,
}

impl Network {
    /// Makes the bridge in this network namespace and brings it and `lo` up.
    pub(crate) async fn create() -> anyhow::Result<Self> {
        let handle = connect()?;
        bring_up(&handle, "lo").await?;
        handle
            .link()
            .add(LinkBridge::new(BRIDGE).up().build())
            .execute()
            .await
            .context("making the bridge (is the kernel module `bridge` there?)")?;
        let bridge = index(&handle, BRIDGE).await?;
        handle
            .address()
            .add(bridge, GATEWAY.into(), PREFIX)
            .execute()
            .await
            .context("addressing the bridge")?;
        // With forwarding on, what has no route is answered with "unreachable" at once instead of being dropped.
        // Some sandboxes mount /proc/sys read-only; then callers wait for their own deadline.
        let _ = std::fs::write("/proc/sys/net/ipv4/ip_forward", "1");
        Ok(Self { handle, bridge })
    }

    /// Joins the network namespace of a process to the bridge; inside, the link is called `eth0`.
    pub(crate) async fn attach(&self, number: u32, pid: Pid) -> anyhow::Result<()> {
        let (outside, inside) = (format!("veth{number}"), format!("peer{number}"));
        let link = LinkVeth::new(&outside, &inside).up().controller(self.bridge).build();
        self.handle
            .link()
            .add(link)
            .execute()
            .await
            .context("making a veth pair (is the kernel module `veth` there?)")?;
        let moved = LinkUnspec::new_with_index(index(&self.handle, &inside).await?)
            .name("eth0")
            .setns_by_pid(pid.as_raw_nonzero().get().unsigned_abs())
            .build();
        let moved = self.handle.link().set(moved).execute().await;
        if moved.is_err() {
            // What stays outside does not vanish with the pod.
            let link = index(&self.handle, &outside).await?;
            self.handle.link().del(link).execute().await.context("removing a veth pair")?;
        }
        moved.context("moving a link into a pod")
    }
}

/// Inside a pod: `lo` and `eth0` up, with the pod's address and the default route.
pub(crate) async fn configure_pod(address: Ipv4Addr) -> anyhow::Result<()> {
    let handle = connect()?;
    bring_up(&handle, "lo").await?;
    let link = index(&handle, "eth0").await?;
    handle.address().add(link, address.into(), PREFIX).execute().await.context("addressing eth0")?;
    bring_up(&handle, "eth0").await?;
    let route = RouteMessageBuilder::<Ipv4Addr>::new().gateway(GATEWAY).build();
    handle.route().add(route).execute().await.context("adding the default route")
}

fn connect() -> anyhow::Result<Handle> {
    let (connection, handle, _) = rtnetlink::new_connection().context("opening a netlink socket")?;
    tokio::spawn(connection);
    Ok(handle)
}

async fn bring_up(handle: &Handle, name: &str) -> anyhow::Result<()> {
    let message = LinkUnspec::new_with_name(name).up().build();
    handle.link().set(message).execute().await.with_context(|| format!("bringing {name} up"))
}

async fn index(handle: &Handle, name: &str) -> anyhow::Result<u32> {
    let mut links = handle.link().get().match_name(name.to_owned()).execute();
    let link = links.try_next().await.with_context(|| format!("looking for the link {name}"))?;
    Ok(link.with_context(|| format!("there is no link {name}"))?.header.index)
}
