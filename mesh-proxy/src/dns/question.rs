//! What an application asked, and which messages are not taken as a question.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, RecordType};
use mesh_core::name::Host;

/// How a query came, and so how long its answer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// One well-formed question.
#[derive(Debug)]
pub(super) struct Question<'a> {
    /// The message as it came, for other resolvers.
    pub(super) bytes: &'a [u8],
    pub(super) transport: Transport,
    pub(super) message: Message,
}

/// Why a message is not taken as a question.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Not even the start of a query. Answering could make two servers talk to each other for ever.
    Noise,
    /// A query that gets an error.
    Answer { id: u16, operation: OpCode, code: ResponseCode },
}

/// The longest answer over UDP, and what we tell clients that we take.
pub(super) const LONGEST_UDP: u16 = 4096;

impl<'a> Question<'a> {
    pub(super) fn parse(bytes: &'a [u8], transport: Transport) -> Result<Self, Refusal> {
        let refuse = |id, operation, code| Err(Refusal::Answer { id, operation, code });
        let &[high, low, flags, ..] = bytes else { return Err(Refusal::Noise) };
        if bytes.len() < HEADER_LENGTH || flags & RESPONSE_FLAG != 0 {
            return Err(Refusal::Noise);
        }
        let Ok(message) = Message::from_vec(bytes) else {
            return refuse(u16::from_be_bytes([high, low]), OpCode::Query, ResponseCode::FormErr);
        };
        let (id, operation) = (message.metadata.id, message.metadata.op_code);
        debug_assert_eq!(message.metadata.message_type, MessageType::Query);
        match &message.queries[..] {
            _ if operation != OpCode::Query => refuse(id, operation, ResponseCode::NotImp),
            // RFC 6891 section 6.1.3
            _ if message.version() > 0 => refuse(id, operation, ResponseCode::BADVERS),
            [query] if query.query_class() != DNSClass::IN => refuse(id, operation, ResponseCode::Refused),
            [_] => Ok(Self { bytes, transport, message }),
            _ => refuse(id, operation, ResponseCode::FormErr),
        }
    }

    /// The only query; DNS allows several and nobody sends them.
    pub(super) fn query(&self) -> &Query {
        &self.message.queries[0]
    }

    pub(super) fn record_type(&self) -> RecordType {
        self.query().query_type()
    }

    /// The name in the form the mesh knows names by; none for a name that no host can have.
    pub(super) fn host(&self) -> Option<Host> {
        Host::parse(&self.query().name().to_ascii()).ok()
    }

    /// The longest answer the client takes, in bytes.
    pub(super) fn longest_answer(&self) -> usize {
        match self.transport {
            Transport::Udp => usize::from(self.message.max_payload().min(LONGEST_UDP)),
            Transport::Tcp => usize::from(u16::MAX),
        }
    }
}

impl Refusal {
    /// The answer's bytes, if there is an answer.
    pub(super) fn reply(self) -> Option<Vec<u8>> {
        let Self::Answer { id, operation, code } = self else { return None };
        let mut message = Message::error_msg(id, operation, code);
        if code == ResponseCode::BADVERS {
            // Its code does not fit into the header alone.
            message.set_edns(Edns::new());
        }
        message.to_vec().ok()
    }
}

const HEADER_LENGTH: usize = 12;
/// In the third byte of a message: it is a response.
const RESPONSE_FLAG: u8 = 0x80;
