//! The value of an expression for a record. Nothing is allocated but texts that have to be put together.

use std::borrow::Cow;
use std::net::SocketAddr;

use super::record::{LoggedRequest, Record, Security};
use crate::identity::SpiffeId;
use crate::model::expression::Term;
use crate::model::{Attribute, Comparison, Expression, PeerFact, Search, Which};

/// What a term comes to.
#[derive(Debug, Clone, PartialEq)]
enum Value<'a> {
    Bool(bool),
    Number(i64),
    Text(Cow<'a, str>),
}

/// Whether a condition holds; what cannot be evaluated does not.
pub(super) fn holds(expression: &Expression, record: &Record) -> bool {
    evaluate(expression.root(), record) == Some(Value::Bool(true))
}

/// The value as text; nothing when something that it needs is missing.
pub(super) fn text<'a>(expression: &'a Expression, record: &'a Record) -> Option<Cow<'a, str>> {
    evaluate(expression.root(), record).map(into_text)
}

fn into_text(value: Value<'_>) -> Cow<'_, str> {
    match value {
        Value::Bool(value) => (if value { "true" } else { "false" }).into(),
        Value::Number(number) => number.to_string().into(),
        Value::Text(text) => text,
    }
}

/// `None` stands for CEL's error: something is missing.
fn evaluate<'a>(term: &'a Term, record: &'a Record) -> Option<Value<'a>> {
    let truth = |term: &'a Term| match evaluate(term, record) {
        Some(Value::Bool(value)) => Some(value),
        _ => None,
    };
    let text = |term: &'a Term| match evaluate(term, record) {
        Some(Value::Text(text)) => Some(text),
        _ => None,
    };
    Some(match term {
        Term::Bool(value) => Value::Bool(*value),
        Term::Number(number) => Value::Number(*number),
        Term::Text(text) => Value::Text((&**text).into()),
        Term::Attribute(wanted) => return attribute(wanted, record),
        Term::Has(wanted) => Value::Bool(attribute(wanted, record).is_some()),
        Term::Not(term) => Value::Bool(!truth(term)?),
        // An error on one side does not matter when the other side decides.
        Term::And(terms) => match (truth(&terms[0]), truth(&terms[1])) {
            (Some(false), _) | (_, Some(false)) => Value::Bool(false),
            (first, second) => Value::Bool(first? && second?),
        },
        Term::Or(terms) => match (truth(&terms[0]), truth(&terms[1])) {
            (Some(true), _) | (_, Some(true)) => Value::Bool(true),
            (first, second) => Value::Bool(first? || second?),
        },
        Term::If(parts) => return evaluate(&parts[if truth(&parts[0])? { 1 } else { 2 }], record),
        Term::Compare(comparison, terms) => {
            Value::Bool(compare(*comparison, &evaluate(&terms[0], record)?, &evaluate(&terms[1], record)?))
        }
        Term::In(term, items) => {
            let value = evaluate(term, record)?;
            Value::Bool(items.iter().any(|item| evaluate(item, record).as_ref() == Some(&value)))
        }
        Term::Join(terms) => Value::Text(format!("{}{}", text(&terms[0])?, text(&terms[1])?).into()),
        Term::Size(term) => Value::Number(i64::try_from(text(term)?.chars().count()).unwrap_or(i64::MAX)),
        Term::ToText(term) => Value::Text(into_text(evaluate(term, record)?)),
        Term::Search(search, terms) => {
            let (text, part) = (text(&terms[0])?, text(&terms[1])?);
            Value::Bool(match search {
                Search::StartsWith => text.starts_with(&*part),
                Search::EndsWith => text.ends_with(&*part),
                Search::Contains => text.contains(&*part),
            })
        }
        Term::Matches(term, pattern) => Value::Bool(pattern.is_in(&text(term)?)),
    })
}

/// Kinds are equal: that is checked when an expression is read.
fn compare(comparison: Comparison, left: &Value<'_>, right: &Value<'_>) -> bool {
    let order = match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.cmp(right),
        (Value::Text(left), Value::Text(right)) => left.cmp(right),
        (Value::Bool(left), Value::Bool(right)) => left.cmp(right),
        _ => return false,
    };
    match comparison {
        Comparison::Equal => order.is_eq(),
        Comparison::Unequal => order.is_ne(),
        Comparison::Less => order.is_lt(),
        Comparison::AtMost => order.is_le(),
        Comparison::Greater => order.is_gt(),
        Comparison::AtLeast => order.is_ge(),
    }
}

fn attribute<'a>(wanted: &Attribute, record: &'a Record) -> Option<Value<'a>> {
    if let Some(value) = of_request(wanted, record.request.as_ref()) {
        return value;
    }
    let plain = |text: &'a str| Value::Text(text.into());
    let number = |number: u64| Value::Number(i64::try_from(number).unwrap_or(i64::MAX));
    let port = |address: Option<SocketAddr>| address.map(|address| Value::Number(address.port().into()));
    let shown = |address: Option<SocketAddr>| address.map(|address| Value::Text(address.to_string().into()));
    match wanted {
        Attribute::RequestSize => Some(number(record.received)),
        Attribute::ResponseSize => Some(number(record.sent)),
        Attribute::ResponseCode => (record.status > 0).then(|| Value::Number(record.status.into())),
        Attribute::ResponseCodeDetails => Some(plain(record.response_details())),
        Attribute::ResponseGrpcStatus => record.grpc_status.map(|status| Value::Number(status.into())),
        Attribute::ResponseHeader(name) => record.response_headers.get(name).map(lossy),
        Attribute::ConnectionMtls => Some(Value::Bool(record.security == Security::MutualTls)),
        Attribute::ConnectionServerName => record.server_name.as_deref().map(plain),
        Attribute::ConnectionPeer => record.downstream_principal.as_ref().map(|peer| plain(peer.as_str())),
        Attribute::SourceAddress => shown(record.downstream_remote),
        Attribute::SourcePort => port(record.downstream_remote),
        Attribute::DestinationAddress => shown(record.downstream_local),
        Attribute::DestinationPort => port(record.downstream_local),
        Attribute::UpstreamAddress => shown(record.upstream),
        Attribute::UpstreamPort => port(record.upstream),
        Attribute::ClusterName => record.cluster.as_deref().map(plain),
        Attribute::RouteName => record.route.as_deref().map(plain),
        Attribute::Peer(which, fact) => peer(*which, *fact, record).map(plain),
        _ => None,
    }
}

/// What the request's head says; nothing if the attribute is not of the head.
fn of_request<'a>(wanted: &Attribute, request: Option<&'a LoggedRequest>) -> Option<Option<Value<'a>>> {
    let of = |value: fn(&'a LoggedRequest) -> Option<Value<'a>>| Some(request.and_then(value));
    match wanted {
        Attribute::RequestPath => of(|request| {
            let text = match request.path_and_query() {
                Cow::Borrowed(path) => String::from_utf8_lossy(path),
                Cow::Owned(path) => String::from_utf8_lossy(&path).into_owned().into(),
            };
            Some(Value::Text(text))
        }),
        Attribute::RequestUrlPath => of(|request| Some(lossy(&request.path))),
        Attribute::RequestHost => of(|request| Some(lossy(&request.authority))),
        Attribute::RequestScheme => of(|request| Some(Value::Text(request.scheme.as_str().into()))),
        Attribute::RequestMethod => of(|request| Some(Value::Text(request.method.as_str().into()))),
        Attribute::RequestQuery => of(|request| Some(lossy(request.query.as_deref().unwrap_or_default()))),
        Attribute::RequestProtocol => of(|request| Some(Value::Text(request.version.as_str().into()))),
        Attribute::RequestId => of(|request| request.request_id.as_deref().map(lossy)),
        Attribute::RequestUserAgent => of(|request| request.user_agent.as_deref().map(lossy)),
        Attribute::RequestHeader(name) => Some(request.and_then(|it| it.header(name)).map(lossy)),
        _ => None,
    }
}

fn lossy(bytes: &[u8]) -> Value<'_> {
    Value::Text(String::from_utf8_lossy(bytes))
}

fn peer(which: Which, fact: PeerFact, record: &Record) -> Option<&str> {
    let (workload, principal) = match which {
        Which::Downstream => (record.source.as_deref(), record.source_principal.as_ref()),
        Which::Upstream => (record.destination.as_deref(), record.destination_principal.as_ref()),
    };
    let text = match fact {
        PeerFact::Principal => return principal.map(SpiffeId::as_str),
        PeerFact::Pod => &workload?.pod,
        PeerFact::Namespace => &workload?.namespace,
        PeerFact::Workload => &workload?.workload,
        PeerFact::App => &workload?.app,
        PeerFact::Version => &workload?.version,
        PeerFact::Cluster => &workload?.cluster,
    };
    Some(text.as_str()).filter(|text| !text.is_empty())
}
