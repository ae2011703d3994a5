//! Both ends, in one process.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::time::timeout;

use super::*;

fn ends() -> (Broker, Questions) {
    let (asker, answerer) = Broker::pair().unwrap();
    (Broker::new(asker), Questions::new(answerer).unwrap())
}

async fn next(questions: &Questions) -> Question {
    timeout(Duration::from_secs(5), questions.next()).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_connection_that_another_process_has_made_can_be_used() {
    let (broker, questions) = ends();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = async {
        let question = next(&questions).await;
        assert_eq!(question.request, Request::Connect(address));
        let socket = OwnedFd::from(TcpStream::connect(address).unwrap());
        question.answer(&Answer::Connected, Some(&socket));
    };
    let (connection, ()) = tokio::join!(broker.connect(address), answer);
    assert_eq!(connection.unwrap().peer_addr().unwrap(), address);
}

#[tokio::test]
async fn answers_reach_who_asked_in_whatever_order_they_come() {
    let (broker, questions) = ends();
    let answer = async {
        let (first, second) = (next(&questions).await, next(&questions).await);
        for question in [second, first] {
            let Request::Resolve(name) = question.request.clone() else { panic!("{:?}", question.request) };
            let octet = name.as_bytes()[0];
            question.answer(&Answer::Addresses(vec![IpAddr::from([192, 0, 2, octet])]), None);
        }
    };
    let (a, b, ()) = tokio::join!(broker.resolve("a.example"), broker.resolve("b.example"), answer);
    assert_eq!((a.unwrap(), b.unwrap()), (vec![[192, 0, 2, b'a'].into()], vec![[192, 0, 2, b'b'].into()]));
}

#[tokio::test]
async fn refusals_say_why_and_errors_of_the_system_keep_their_number() {
    let (broker, questions) = ends();
    let ask = async |given: Answer| {
        let address = "192.0.2.1:80".parse().unwrap();
        let answer = async { next(&questions).await.answer(&given, None) };
        io::Error::from(tokio::join!(broker.connect(address), answer).0.unwrap_err())
    };
    let refused = ask(Answer::Forbidden("the mesh's own network".into())).await;
    assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
    assert!(refused.to_string().contains("the mesh's own network"), "{refused}");
    let number = rustix::io::Errno::CONNREFUSED.raw_os_error();
    assert_eq!(ask(Answer::System(number)).await.kind(), io::ErrorKind::ConnectionRefused);
    assert_eq!(ask(Answer::Late).await.kind(), io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn who_gives_up_is_noticed_and_who_is_gone_is_an_error() {
    let (broker, questions) = ends();
    let question = {
        let asking = broker.resolve("a.example");
        tokio::pin!(asking);
        tokio::select! {
            _ = &mut asking => panic!("nobody has answered"),
            question = next(&questions) => question,
        }
    };
    timeout(Duration::from_secs(5), question.given_up()).await.unwrap();
    drop(question);
    drop(questions);
    assert!(matches!(broker.resolve("a.example").await, Err(BrokerError::Gone(_))));
}

#[tokio::test]
async fn a_full_queue_is_said_at_once() {
    let (broker, _questions) = ends();
    let mut asked = Vec::new();
    for _ in 0..10_000 {
        let mut asking = Box::pin(broker.resolve("a.example"));
        match timeout(Duration::ZERO, &mut asking).await {
            Err(_) => asked.push(asking),
            Ok(answer) => {
                // Too many sockets in flight, or too many datagrams: both are limits of the system.
                assert!(matches!(
                    answer,
                    Err(BrokerError::Busy | BrokerError::System(_) | BrokerError::Gone(_))
                ));
                return;
            }
        }
    }
    panic!("{} questions wait", asked.len());
}

#[test]
fn only_names_and_addresses_are_questions() {
    for text in
        ["resolve ", "resolve a b", "resolve -a", "resolve a/b", "connect 1.2.3.4", "connect x:80", "", "?"]
    {
        assert_eq!(Request::parse(text.as_bytes()), None, "{text:?}");
    }
    for request in
        [Request::Connect("[2001:db8::1]:443".parse().unwrap()), Request::Resolve("a_b-c.example".into())]
    {
        assert_eq!(Request::parse(request.to_string().as_bytes()), Some(request));
    }
}

#[test]
fn pods_services_and_loopback_are_inside() {
    for address in
        ["10.244.3.4", "10.96.0.10", "240.240.0.1", "127.0.0.6", "::1", "0.0.0.0", "::ffff:10.244.3.4"]
    {
        assert!(is_inside(address.parse().unwrap()), "{address}");
    }
    for address in ["10.245.0.1", "192.0.2.1", "240.0.0.1", "2001:db8::1", "169.254.169.254"] {
        assert!(!is_inside(address.parse().unwrap()), "{address}");
    }
}
