//! The command line of `mesh-proxy redirect`. The names follow Istio's `traffic.sidecar.istio.io/*` annotations.

use std::num::NonZeroU32;
use std::str::FromStr;

use anyhow::Context;
use ipnet::IpNet;

use super::capture::DEFAULT_MARK;
use super::rule::Script;
use super::{Capture, Selection};

/// What to capture. An annotation's value can be given as it is: lists are comma-separated, `*` means all.
#[derive(Debug, clap::Args)]
pub(crate) struct Flags {
    /// Inbound ports to capture, or `*`; empty captures none.
    #[arg(long, value_name = "PORTS", default_value = "*", value_parser = Selection::<u16>::from_str)]
    include_inbound_ports: Selection<u16>,
    /// Inbound ports never to capture.
    #[arg(long, value_name = "PORTS", default_value = "", value_parser = List::<u16>::from_str)]
    exclude_inbound_ports: List<u16>,
    /// Destination networks to capture, or `*`; empty captures none.
    #[arg(long, value_name = "CIDRS", default_value = "*", value_parser = Selection::<Network>::from_str)]
    include_outbound_cidrs: Selection<Network>,
    /// Outbound ports to capture even to other networks.
    #[arg(long, value_name = "PORTS", default_value = "", value_parser = List::<u16>::from_str)]
    include_outbound_ports: List<u16>,
    /// Destination networks never to capture.
    #[arg(long, value_name = "CIDRS", default_value = "", value_parser = List::<Network>::from_str)]
    exclude_outbound_cidrs: List<Network>,
    /// Outbound ports never to capture.
    #[arg(long, value_name = "PORTS", default_value = "", value_parser = List::<u16>::from_str)]
    exclude_outbound_ports: List<u16>,
    /// The proxy's user, where this namespace maps it: its packets are not captured.
    #[arg(long)]
    uid: Option<u32>,
    /// The mark on the proxy's sockets: such packets are not captured.
    #[arg(long, default_value_t = DEFAULT_MARK)]
    mark: NonZeroU32,
    /// Capture DNS queries too.
    #[arg(long)]
    dns: bool,
    /// Lead the proxy's calls to its own pod through the inbound port.
    #[arg(long)]
    self_calls: bool,
    /// Print the rules in nft's language and change nothing.
    #[arg(long)]
    dry_run: bool,
}

impl Flags {
    /// Programs or prints the rules.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let dry_run = self.dry_run;
        let capture = Capture::from(self);
        if dry_run {
            #[expect(clippy::print_stdout, reason = "the rules are the command's output")]
            {
                print!("{}", Script(&capture.rules()));
            }
            return Ok(());
        }
        super::install(&capture).context("cannot capture this pod's traffic")
    }
}

impl From<Flags> for Capture {
    fn from(flags: Flags) -> Self {
        let networks = |list: Vec<Network>| list.into_iter().map(|network| network.0).collect();
        Self {
            inbound_ports: flags.include_inbound_ports,
            excluded_inbound_ports: flags.exclude_inbound_ports.0,
            outbound_networks: match flags.include_outbound_cidrs {
                Selection::All => Selection::All,
                Selection::Only(list) => Selection::Only(networks(list)),
            },
            outbound_ports: flags.include_outbound_ports.0,
            excluded_outbound_networks: networks(flags.exclude_outbound_cidrs.0),
            excluded_outbound_ports: flags.exclude_outbound_ports.0,
            mark: flags.mark,
            uid: flags.uid,
            captures_dns: flags.dns,
            captures_self_calls: flags.self_calls,
        }
    }
}

/// A comma-separated list; the empty text is the empty list.
#[derive(Debug, Clone)]
struct List<T>(Vec<T>);

impl<T: FromStr<Err: std::fmt::Display>> FromStr for List<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        items
            .map(|item| item.parse().map_err(|error| format!("`{item}`: {error}")))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl<T: FromStr<Err: std::fmt::Display>> FromStr for Selection<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim() == "*" {
            Ok(Self::All)
        } else {
            text.parse::<List<T>>().map(|list| Self::Only(list.0))
        }
    }
}

/// A network; a single address is the network of itself, as Istio takes it.
#[derive(Debug, Clone)]
struct Network(IpNet);

impl FromStr for Network {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let network = text.parse::<IpNet>().or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from));
        network.map(Self).map_err(|_| "must be a network such as 10.0.0.0/8")
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        flags: Flags,
    }

    fn capture(arguments: &[&str]) -> Result<Capture, clap::Error> {
        Command::try_parse_from([&["redirect"], arguments].concat()).map(|command| command.flags.into())
    }

    #[test]
    fn no_flags_mean_the_defaults() {
        assert_eq!(capture(&[]).expect("valid"), Capture::default());
    }

    #[test]
    fn annotations_values_are_understood() {
        let capture = capture(&[
            "--include-inbound-ports=",
            "--exclude-outbound-ports=5432, 3306",
            "--include-outbound-cidrs=10.0.0.0/8,fd00::/8",
            "--exclude-outbound-cidrs=10.1.2.3",
            "--uid=1337",
            "--dns",
        ])
        .expect("valid");

        assert_eq!(capture.inbound_ports, Selection::Only(vec![]));
        assert_eq!(capture.excluded_outbound_ports, [5432, 3306]);
        assert_eq!(capture.excluded_outbound_networks, ["10.1.2.3/32".parse().expect("network")]);
        assert_eq!((capture.uid, capture.captures_dns), (Some(1337), true));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let port = capture(&["--exclude-inbound-ports=80,http"]).expect_err("not a port").to_string();
        assert!(port.contains("`http`: invalid digit"), "{port}");
        let network = capture(&["--exclude-outbound-cidrs=10/8"]).expect_err("not a network").to_string();
        assert!(network.contains("`10/8`: must be a network"), "{network}");
        assert!(capture(&["--mark=0"]).is_err(), "mark 0 would exempt every packet");
    }
}
