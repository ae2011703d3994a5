//! What is written reads back the same.

use bytes::BytesMut;
use proptest::collection::vec;
use proptest::prelude::*;

use super::super::decode::{Decoder, Step};
use super::super::encode::{Encoder, request_head};
use super::super::head::{Framing, Request};
use super::super::wire::Output;
use super::*;

fn heads() -> impl Strategy<Value = RequestHead> {
    let field = ("[A-Za-z][A-Za-z0-9-]{0,12}", "([!-~]([ -~]{0,20}[!-~])?)?");
    ("[A-Z]{3,8}", "/[!-\"$-~&&[^?]]{0,30}", proptest::option::of("[!-\"$-~]{0,20}"), vec(field, 0..20))
        .prop_map(|(method, path, query, fields)| {
            let mut head = request("GET", "/");
            head.method = Method::parse(method.into()).unwrap();
            head.path = path.into();
            head.query = query.map(Into::into);
            for (name, value) in fields {
                head.headers.append(format!("X-{name}"), value);
            }
            head
        })
}

fn encoded(head: &RequestHead) -> Bytes {
    let mut output = BytesMut::new();
    request_head(head, Encoder::None, &mut output);
    output.freeze()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_head_reads_back_as_it_was_written(head in heads()) {
        prop_assume!(head.method.as_str() != "CONNECT");
        let bytes = encoded(&head);
        let read = Request::parse(&bytes, Scheme::Http, &Limits::default(), None).unwrap();
        prop_assert_eq!(&read.head.path, &head.path);
        prop_assert_eq!(&read.head.query, &head.query);
        prop_assert_eq!(encoded(&read.head), bytes);
    }

    #[test]
    fn a_chunked_body_reads_back_from_any_split(
        pieces in vec(vec(any::<u8>(), 1..5000), 0..6),
        split in 1_usize..3000,
    ) {
        let mut output = Output::default();
        let mut encoder = Encoder::Chunked { trailers: false };
        for piece in &pieces {
            encoder.frame(Frame::Data(piece.clone().into()), &mut output).unwrap();
        }
        encoder.finish(&mut output).unwrap();
        let (mut decoder, mut input, mut read) = (Decoder::new(Framing::Chunked), BytesMut::new(), Vec::new());
        for part in output.concat().chunks(split) {
            input.extend_from_slice(part);
            while let Step::Frame(Frame::Data(data)) = decoder.decode(&mut input).unwrap() {
                read.extend_from_slice(&data);
            }
        }
        prop_assert!(decoder.is_done() && input.is_empty());
        prop_assert_eq!(read, pieces.concat());
    }

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in vec(any::<u8>(), 0..200)) {
        let block = [&b"GET / HTTP/1.1\r\nHost: x\r\n"[..], &bytes, b"\r\n\r\n"].concat().into();
        let _ = Request::parse(&block, Scheme::Http, &Limits::default(), None);
        let mut input = BytesMut::from(&bytes[..]);
        let mut decoder = Decoder::new(Framing::Chunked);
        while let Ok(Step::Frame(_)) = decoder.decode(&mut input) {}
    }
}
