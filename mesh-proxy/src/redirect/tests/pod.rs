//! A pod and the world outside it, each in a network namespace of this process, joined by a veth pair.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Command;
use std::sync::mpsc;
use std::thread;

use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::super::netlink::{ERROR, FLAG_ACKNOWLEDGE, FLAG_CREATE, Message, receive, replies, send};
use crate::sys;

pub(super) const POD: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 5);
const POD_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 5);
/// Addresses outside the pod: the router of the default route, and one behind it.
pub(super) const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);
pub(super) const REMOTE: Ipv4Addr = Ipv4Addr::new(10, 1, 2, 3);
pub(super) const REMOTE_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);

const INSIDE: &str = "MESH_TEST_INSIDE_NAMESPACE";

/// Runs `body` in a pod: re-executes the named test of this binary in new namespaces.
///
/// Where namespaces are not permitted the test is skipped, unless `MESH_REQUIRE` contains `netns`.
#[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
pub(super) fn in_pod(test: &str, body: impl FnOnce(&Outside)) {
    if std::env::var_os(INSIDE).is_some() {
        return body(&join_namespaces());
    }
    let mut command = Command::new("/proc/self/exe");
    command.args(["--exact", "--nocapture", test]).env(INSIDE, "1");
    match sys::isolate(&mut command).output() {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && text.contains("1 passed"), "inside the namespace:\n{text}");
        }
        Err(error) => {
            let required = std::env::var("MESH_REQUIRE").is_ok_and(|list| list.contains("netns"));
            assert!(!required, "namespaces are required but not permitted: {error}");
            eprintln!("SKIPPED {test}: namespaces are not permitted here: {error}");
        }
    }
}

/// A thread whose network namespace is the world outside the pod.
pub(super) struct Outside(mpsc::Sender<Box<dyn FnOnce() + Send>>);

impl Outside {
    fn start() -> Self {
        let (jobs, queue) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
        thread::spawn(move || {
            sys::enter_new_network().expect("a namespace's root may make network namespaces");
            queue.into_iter().for_each(|job| job());
        });
        Self(jobs)
    }

    /// Runs `job` outside the pod and waits for its result.
    pub(super) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, result) = mpsc::sync_channel(1);
        self.0
            .send(Box::new(move || drop(sender.send(job()))))
            .expect("the thread lives as long as its handle");
        result.recv().expect("the job outside did not panic")
    }
}

fn join_namespaces() -> Outside {
    let outside = Outside::start();
    let namespace = outside.run(|| File::open("/proc/thread-self/ns/net").expect("procfs is mounted"));
    up("lo");
    make_link(&namespace);
    outside.run(|| {
        up("lo");
        up("eth0");
        add_address(ROUTER.into(), 24);
        add_address(REMOTE.into(), 32);
        add_address(REMOTE_V6.into(), 64);
    });
    up("eth0");
    add_address(POD.into(), 24);
    add_address(POD_V6.into(), 64);
    add_default_route();
    outside
}

// rtnetlink: names and numbers are those of linux/rtnetlink.h, if_link.h and if_addr.h.

const NEW_LINK: u16 = 16;
const NEW_ADDRESS: u16 = 20;
const NEW_ROUTE: u16 = 24;

fn up(interface: &str) {
    let mut message = Message::bare(format!("link {interface} up"), NEW_LINK, FLAG_ACKNOWLEDGE);
    let if_up = libc::IFF_UP.cast_unsigned().to_ne_bytes();
    message.append(&[0; 4]);
    message.append(&index(interface).to_ne_bytes());
    message.append(&[if_up, if_up].concat());
    request(message);
}

/// A veth pair named `eth0` at both ends, the other end in `namespace`.
fn make_link(namespace: &File) {
    const NAME: u16 = 3;
    let mut message = Message::bare("veth pair", NEW_LINK, FLAG_ACKNOWLEDGE | FLAG_CREATE);
    message.append(&[0; 16]);
    message.text(NAME, "eth0");
    message.nested(18, |info| {
        info.text(1, "veth");
        info.nested(2, |data| {
            data.nested(1, |peer| {
                peer.append(&[0; 16]);
                peer.text(NAME, "eth0");
                peer.attribute(28, &namespace.as_raw_fd().to_ne_bytes());
            });
        });
    });
    request(message);
}

fn add_address(address: IpAddr, prefix: u8) {
    const NO_DUPLICATE_DETECTION: u8 = 2;
    let (family, octets) = parts(address);
    let what = format!("address {address}");
    let mut message = Message::bare(what, NEW_ADDRESS, FLAG_ACKNOWLEDGE | FLAG_CREATE);
    message.append(&[family, prefix, NO_DUPLICATE_DETECTION, 0]);
    message.append(&index("eth0").to_ne_bytes());
    message.attribute(2, &octets);
    message.attribute(1, &octets);
    request(message);
}

fn add_default_route() {
    const MAIN_TABLE: u8 = 254;
    const BOOT: u8 = 3;
    const UNICAST: u8 = 1;
    let (family, octets) = parts(ROUTER.into());
    let mut message = Message::bare("default route", NEW_ROUTE, FLAG_ACKNOWLEDGE | FLAG_CREATE);
    message.append(&[family, 0, 0, 0, MAIN_TABLE, BOOT, 0, UNICAST, 0, 0, 0, 0]);
    message.attribute(5, &octets);
    request(message);
}

fn parts(address: IpAddr) -> (u8, Vec<u8>) {
    match address {
        IpAddr::V4(address) => (2, address.octets().into()),
        IpAddr::V6(address) => (10, address.octets().into()),
    }
}

fn index(interface: &str) -> u32 {
    rustix::net::netdevice::name_to_index(route_socket(), interface).expect("the interface exists")
}

fn route_socket() -> OwnedFd {
    // Protocol 0 is NETLINK_ROUTE.
    rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)
        .expect("rtnetlink is always there")
}

fn request(message: Message) {
    let (socket, what) = (route_socket(), message.what.clone());
    send(&socket, &message.finish(1)).expect("the request is sent");
    let mut buffer = [0; 4096];
    let answer = receive(&socket, &mut buffer).expect("an answer").expect("rtnetlink answers at once");
    let reply = replies(answer).next().expect("a message");
    assert_eq!((reply.kind, &reply.body[..4]), (ERROR, &[0; 4][..]), "{what}");
}
