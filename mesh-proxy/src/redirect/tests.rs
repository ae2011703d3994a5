//! The rules in real network namespaces.

mod dns;
mod pod;

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use rustix::net::sockopt::{self, Timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use self::pod::{POD, REMOTE, REMOTE_V6, ROUTER, in_pod};
use super::encode::{FAMILY_INET, RULE_CHAIN, RULE_USERDATA, SUBSYSTEM};
use super::netlink::{ERROR, FLAG_DUMP, Message, netfilter_attributes, open, receive, replies, send};
use super::{Capture, Selection, install};
use crate::sys;

/// Long enough for a loaded machine; what arrives never takes it.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait for what must not arrive.
const GIVE_UP: Duration = Duration::from_millis(700);

#[test]
fn outbound_connections_arrive_at_the_proxy_with_their_destination() {
    in_pod("redirect::tests::outbound_connections_arrive_at_the_proxy_with_their_destination", |_| {
        install(&Capture::default()).expect("the rules are accepted");
        let proxy = listen(Ipv4Addr::LOCALHOST, 15001);

        let _application = connect(REMOTE, 80).expect("captured");

        assert_eq!(original_destination(&accept(&proxy)), address(REMOTE, 80));
    });
}

#[test]
fn outbound_ipv6_connections_arrive_at_the_proxy() {
    in_pod("redirect::tests::outbound_ipv6_connections_arrive_at_the_proxy", |_| {
        install(&Capture::default()).expect("the rules are accepted");
        let proxy = listen(Ipv6Addr::LOCALHOST, 15001);

        let _application = connect(REMOTE_V6, 80).expect("captured");

        let original = sockopt::ipv6_original_dst(accept(&proxy)).expect("the connection was redirected");
        assert_eq!(SocketAddr::V6(original), address(REMOTE_V6, 80));
    });
}

#[test]
fn marked_connections_leave_the_pod_directly() {
    in_pod("redirect::tests::marked_connections_leave_the_pod_directly", |outside| {
        install(&Capture::default()).expect("the rules are accepted");
        let remote = outside.run(|| listen(REMOTE, 80));

        let proxy = connect_marked(address(REMOTE, 80), &Capture::default()).expect("not captured");

        assert_eq!(accept(&remote).peer_addr().expect("connected"), proxy.local_addr().expect("connected"));
    });
}

#[test]
fn inbound_connections_arrive_at_the_proxy_with_their_destination() {
    in_pod("redirect::tests::inbound_connections_arrive_at_the_proxy_with_their_destination", |outside| {
        install(&Capture::default()).expect("the rules are accepted");
        let proxy = listen(Ipv4Addr::UNSPECIFIED, 15006);

        let _client = outside.run(|| connect(POD, 9080)).expect("captured");

        let accepted = accept(&proxy);
        assert_eq!(original_destination(&accepted), address(POD, 9080));
        assert_eq!(accepted.peer_addr().expect("connected").ip(), IpAddr::V4(ROUTER));
    });
}

#[test]
fn excluded_ports_and_networks_are_not_captured() {
    in_pod("redirect::tests::excluded_ports_and_networks_are_not_captured", |outside| {
        let capture = Capture {
            excluded_inbound_ports: vec![9090],
            excluded_outbound_ports: vec![5432],
            excluded_outbound_networks: vec!["10.1.2.0/23".parse().expect("network")],
            ..Capture::default()
        };
        install(&capture).expect("the rules are accepted");
        let application = listen(POD, 9090);
        let remotes = outside.run(|| [listen(ROUTER, 5432), listen(REMOTE, 80)]);

        let _client = outside.run(|| connect(POD, 9090)).expect("the application is reached");
        accept(&application);
        let _by_port = connect(ROUTER, 5432).expect("the database is reached");
        accept(&remotes[0]);
        let _by_network = connect(REMOTE, 80).expect("the network is reached");
        accept(&remotes[1]);
    });
}

#[test]
fn only_included_ports_and_networks_are_captured() {
    in_pod("redirect::tests::only_included_ports_and_networks_are_captured", |outside| {
        let capture = Capture {
            inbound_ports: Selection::Only(vec![]),
            outbound_networks: Selection::Only(vec!["10.1.0.0/16".parse().expect("network")]),
            outbound_ports: vec![3306],
            ..Capture::default()
        };
        install(&capture).expect("the rules are accepted");
        let proxy = listen(Ipv4Addr::LOCALHOST, 15001);
        let (application, remote) = (listen(POD, 9080), outside.run(|| listen(ROUTER, 80)));

        for destination in [address(REMOTE, 80), address(ROUTER, 3306)] {
            let _captured = connect(destination.ip(), destination.port()).expect("captured");
            assert_eq!(original_destination(&accept(&proxy)), destination);
        }
        let _outbound = connect(ROUTER, 80).expect("not captured");
        accept(&remote);
        let _inbound = outside.run(|| connect(POD, 9080)).expect("not captured");
        accept(&application);
    });
}

#[test]
fn proxy_ports_are_closed_to_the_outside_but_health_is_open() {
    in_pod("redirect::tests::proxy_ports_are_closed_to_the_outside_but_health_is_open", |outside| {
        install(&Capture::default()).expect("the rules are accepted");
        let _private = [15000, 15001, 15006].map(|port| listen(Ipv4Addr::UNSPECIFIED, port));
        let health = listen(Ipv4Addr::UNSPECIFIED, 15021);

        for port in [15000, 15001, 15006] {
            let outcome = outside.run(move || TcpStream::connect_timeout(&address(POD, port), GIVE_UP));
            assert_eq!(outcome.expect_err("dropped").kind(), io::ErrorKind::TimedOut, "port {port}");
        }
        let _probe = outside.run(|| connect(POD, 15021)).expect("health is open");
        accept(&health);
    });
}

#[test]
fn calls_inside_the_pod_stay_there() {
    in_pod("redirect::tests::calls_inside_the_pod_stay_there", |_| {
        install(&Capture::default()).expect("the rules are accepted");
        for host in [POD, Ipv4Addr::LOCALHOST] {
            let application = listen(host, 9080);
            let _client = connect(host, 9080).expect("reached directly");
            accept(&application);
        }
    });
}

#[test]
fn self_calls_of_the_proxy_enter_inbound_when_asked() {
    in_pod("redirect::tests::self_calls_of_the_proxy_enter_inbound_when_asked", |_| {
        let capture = Capture { captures_self_calls: true, ..Capture::default() };
        install(&capture).expect("the rules are accepted");
        let (inbound, application) =
            (listen(Ipv4Addr::UNSPECIFIED, 15006), listen(Ipv4Addr::LOCALHOST, 9080));

        let _outbound_leg = connect_marked(address(POD, 9080), &capture).expect("captured");
        assert_eq!(original_destination(&accept(&inbound)), address(POD, 9080));
        let _inbound_leg =
            connect_marked(address(Ipv4Addr::LOCALHOST, 9080), &capture).expect("not captured");
        accept(&application);
    });
}

#[test]
fn dns_queries_to_any_server_arrive_at_the_proxy() {
    in_pod("redirect::tests::dns_queries_to_any_server_arrive_at_the_proxy", |_| {
        install(&Capture { captures_dns: true, ..Capture::default() }).expect("the rules are accepted");
        let proxy = UdpSocket::bind((Ipv4Addr::LOCALHOST, 15053)).expect("free port");
        proxy.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let tcp = listen(Ipv4Addr::LOCALHOST, 15053);

        for server in [Ipv4Addr::new(10, 96, 0, 10), Ipv4Addr::new(127, 0, 0, 53)] {
            let resolver = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("free port");
            resolver.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            resolver.connect((server, 53)).expect("a route");
            resolver.send(b"query").expect("sent");

            let mut buffer = [0; 16];
            let (length, client) = proxy.recv_from(&mut buffer).expect("captured");
            assert_eq!(&buffer[..length], b"query");
            // The resolver is connected: it takes the answer only from the address it asked.
            proxy.send_to(b"answer", client).expect("sent");
            assert_eq!(resolver.recv(&mut buffer).expect("answered"), 6);

            let mut stream = connect(server, 53).expect("captured");
            accept(&tcp).write_all(b"answer").expect("sent");
            assert_eq!(stream.read(&mut buffer).expect("answered"), 6);
        }
    });
}

#[test]
fn installing_twice_leaves_the_rules_once_and_in_order() {
    in_pod("redirect::tests::installing_twice_leaves_the_rules_once_and_in_order", |_| {
        let capture =
            Capture { captures_dns: true, captures_self_calls: true, uid: Some(0), ..Capture::default() };

        install(&Capture::default()).expect("the rules are accepted");
        install(&capture).expect("the rules are replaced");
        install(&capture).expect("the rules are replaced");

        let expected = capture
            .rules()
            .iter()
            .map(|rule| (rule.chain.name().into(), rule.why.into()))
            .collect::<Vec<_>>();
        assert_eq!(programmed(), expected);
    });
}

/// Chain and comment of every rule in the kernel.
fn programmed() -> Vec<(String, String)> {
    const GET_RULE: u16 = 7;
    let socket = open().expect("a netlink socket");
    let dump = Message::netfilter("dump", SUBSYSTEM << 8 | GET_RULE, FLAG_DUMP, FAMILY_INET, 0);
    send(&socket, &dump.finish(1)).expect("sent");

    let (mut rules, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    while let Some(datagram) = receive(&socket, &mut buffer).expect("received") {
        for reply in replies(datagram).filter(|reply| reply.kind > ERROR + 1) {
            let text = |kind, skip: usize| {
                let value =
                    netfilter_attributes(reply.body).find(|(found, _)| *found == kind).expect("present").1;
                String::from_utf8_lossy(&value[skip..]).trim_end_matches('\0').to_owned()
            };
            rules.push((text(RULE_CHAIN, 0), text(RULE_USERDATA, 2)));
        }
    }
    rules
}

fn address(host: impl Into<IpAddr>, port: u16) -> SocketAddr {
    SocketAddr::new(host.into(), port)
}

fn listen(host: impl Into<IpAddr>, port: u16) -> TcpListener {
    let listener = TcpListener::bind(address(host, port)).expect("free port");
    sockopt::set_socket_timeout(&listener, Timeout::Recv, Some(PATIENCE)).expect("a timeout");
    listener
}

fn accept(listener: &TcpListener) -> TcpStream {
    listener.accept().expect("a connection arrives").0
}

fn connect(host: impl Into<IpAddr>, port: u16) -> io::Result<TcpStream> {
    TcpStream::connect_timeout(&address(host, port), PATIENCE)
}

fn connect_marked(to: SocketAddr, capture: &Capture) -> io::Result<TcpStream> {
    let socket =
        rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sys::mark_socket(&socket, capture.mark)?;
    sockopt::set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))?;
    rustix::net::connect(&socket, &to)?;
    Ok(socket.into())
}

fn original_destination(accepted: &TcpStream) -> SocketAddr {
    sockopt::ip_original_dst(accepted).expect("the connection was redirected").into()
}
