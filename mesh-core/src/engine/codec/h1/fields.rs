//! The fields of a head, sorted: what concerns this connection is taken out, the rest is the message's.

use bytes::Bytes;

use crate::message::Headers;

/// A client that nominates more connection options than this is not one.
const MAX_CONNECTION_OPTIONS: usize = 32;

/// Never removed because a peer nominated them in `Connection`: they carry identity, forwarding and framing, and
/// naming them there is an attack (HD-04 of the attack list).
const NEVER_HOP_BY_HOP: &[&str] = &[
    "authorization",
    "b3",
    "cookie",
    "forwarded",
    "host",
    "set-cookie",
    "te",
    "traceparent",
    "tracestate",
    "via",
];
const NEVER_HOP_BY_HOP_PREFIXES: &[&[u8]] =
    &[b"content-", b"grpc-", b"x-b3-", b"x-envoy-", b"x-forwarded-", b"x-request-"];

/// What a head's fields say.
#[derive(Default)]
pub(super) struct Fields {
    pub(super) headers: Headers,
    pub(super) host: Option<Bytes>,
    pub(super) length: Option<u64>,
    pub(super) chunked: bool,
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) takes_trailers: bool,
    pub(super) expect: Option<Bytes>,
    /// Set only if `Connection` names it.
    pub(super) upgrade: Option<Bytes>,
}

/// Which kind of head it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Request,
    Response,
}

impl Kind {
    /// How many fields the proxy usually adds, so that the list need not grow.
    const fn additions(self) -> usize {
        match self {
            Self::Request => 12,
            Self::Response => 4,
        }
    }
}

impl Fields {
    /// Sorts the parsed `raw` fields, which are slices of `block`.
    pub(super) fn sort(
        kind: Kind,
        block: &Bytes,
        raw: &[httparse::Header<'_>],
    ) -> Result<Self, &'static str> {
        let mut fields =
            Self { headers: Headers::with_capacity(raw.len() + kind.additions()), ..Self::default() };
        let mut connection = None;
        let mut transfer_encoding = None;
        for field in raw {
            let value = || block.slice_ref(field.value);
            match Known::of(field.name.as_bytes()) {
                Known::Host if kind == Kind::Request => {
                    once(&mut fields.host, value(), "more than one Host")?
                }
                Known::ContentLength => {
                    once(&mut fields.length, length(field.value)?, "more than one Content-Length")?;
                    fields.headers.append(block.slice_ref(field.name.as_bytes()), value());
                }
                Known::TransferEncoding => {
                    once(&mut transfer_encoding, field.value, "more than one Transfer-Encoding")?;
                }
                Known::Connection => fields.connection(&mut connection, field.value)?,
                Known::Te if kind == Kind::Request => fields.takes_trailers |= has_trailers(field.value),
                Known::Upgrade => {
                    fields.upgrade = fields.upgrade.is_none().then(value).filter(|v| is_token(v))
                }
                Known::Expect if kind == Kind::Request => fields.expect = Some(value()),
                Known::HopByHop => {}
                _ => fields.headers.append(block.slice_ref(field.name.as_bytes()), value()),
            }
        }
        fields.chunked = is_chunked(transfer_encoding)?;
        if fields.chunked && fields.length.is_some() {
            return Err("both Content-Length and Transfer-Encoding");
        }
        fields.finish(connection.unwrap_or_default());
        Ok(fields)
    }

    fn connection<'a>(
        &mut self,
        options: &mut Option<Vec<&'a [u8]>>,
        value: &'a [u8],
    ) -> Result<(), &'static str> {
        let options = options.get_or_insert_default();
        for option in value.split(|b| *b == b',').map(<[u8]>::trim_ascii).filter(|option| !option.is_empty())
        {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            options.push(option);
        }
        if options.len() > MAX_CONNECTION_OPTIONS { Err("too many connection options") } else { Ok(()) }
    }

    fn finish(&mut self, options: Vec<&[u8]>) {
        let upgrades = options.iter().any(|option| option.eq_ignore_ascii_case(b"upgrade"));
        // h2c is refused by not seeing it (H2-08): served as HTTP/1.1, it cannot become a tunnel past a policy.
        self.upgrade = self.upgrade.take().filter(|to| upgrades && !to.eq_ignore_ascii_case(b"h2c"));
        let nominated: Vec<_> = options.into_iter().filter(|option| may_be_hop_by_hop(option)).collect();
        if !nominated.is_empty() {
            self.headers.retain(|field| !nominated.iter().any(|name| field.name.eq_ignore_ascii_case(name)));
        }
        if self.takes_trailers {
            self.headers.append("te", "trailers");
        }
    }
}

/// The fields a codec looks at.
enum Known {
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    Te,
    Upgrade,
    Expect,
    HopByHop,
    Other,
}

impl Known {
    fn of(name: &[u8]) -> Self {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match name.len() {
            2 if is("te") => Self::Te,
            4 if is("host") => Self::Host,
            6 if is("expect") => Self::Expect,
            7 if is("upgrade") => Self::Upgrade,
            10 if is("connection") => Self::Connection,
            10 if is("keep-alive") => Self::HopByHop,
            14 if is("content-length") => Self::ContentLength,
            14 if is("http2-settings") => Self::HopByHop,
            16 if is("proxy-connection") => Self::HopByHop,
            17 if is("transfer-encoding") => Self::TransferEncoding,
            _ => Self::Other,
        }
    }
}

/// Whether a field is the codec's own business when a head is written: never taken from a message.
pub(super) fn is_framing(name: &[u8]) -> bool {
    matches!(
        Known::of(name),
        Known::Host | Known::TransferEncoding | Known::Connection | Known::Upgrade | Known::HopByHop
    )
}

fn once<T>(slot: &mut Option<T>, value: T, twice: &'static str) -> Result<(), &'static str> {
    if slot.replace(value).is_some() { Err(twice) } else { Ok(()) }
}

/// A canonical decimal: anything else is read differently by somebody (SM-04, HB-11).
fn length(value: &[u8]) -> Result<u64, &'static str> {
    let canonical = !value.is_empty()
        && value.len() <= 19
        && value.iter().all(u8::is_ascii_digit)
        && (value.len() == 1 || value[0] != b'0');
    if !canonical {
        return Err("Content-Length is not a plain number");
    }
    Ok(value.iter().fold(0, |length, digit| length * 10 + u64::from(digit - b'0')))
}

fn is_chunked(transfer_encoding: Option<&[u8]>) -> Result<bool, &'static str> {
    match transfer_encoding {
        None => Ok(false),
        Some(coding) if coding.eq_ignore_ascii_case(b"chunked") => Ok(true),
        Some(_) => Err("Transfer-Encoding is not chunked"),
    }
}

fn has_trailers(value: &[u8]) -> bool {
    value.split(|b| *b == b',').any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

fn may_be_hop_by_hop(option: &[u8]) -> bool {
    let is = |name: &&str| option.eq_ignore_ascii_case(name.as_bytes());
    let begins =
        |prefix: &&[u8]| option.len() >= prefix.len() && option[..prefix.len()].eq_ignore_ascii_case(prefix);
    !is(&"close")
        && !is(&"keep-alive")
        && !is(&"upgrade")
        && !NEVER_HOP_BY_HOP.iter().any(is)
        && !NEVER_HOP_BY_HOP_PREFIXES.iter().any(begins)
}

/// One protocol name, with an optional version (RFC 9110 §7.8). A list is not one.
fn is_token(value: &[u8]) -> bool {
    !value.is_empty()
        && value.len() <= 64
        && value.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/' | b'+'))
}
