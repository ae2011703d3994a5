//! Numbers as text, on the way of every request: without the machinery of formatting, and without an allocation for the
//! smallest ones.

#[cfg(feature = "telemetry")]
use std::fmt::Write as _;
#[cfg(feature = "telemetry")]
use std::net::SocketAddr;

#[cfg(feature = "engine")]
use bytes::Bytes;

#[cfg(feature = "engine")]
const SMALL: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];

/// In decimal.
#[cfg(feature = "engine")]
pub(crate) fn decimal(number: u64) -> Bytes {
    let small = usize::try_from(number).ok().and_then(|number| SMALL.get(number));
    small.map_or_else(
        || Bytes::copy_from_slice(itoa::Buffer::new().format(number).as_bytes()),
        |text| Bytes::from_static(text.as_bytes()),
    )
}

/// Appends a number in decimal.
#[cfg(feature = "telemetry")]
pub(crate) fn append_decimal(out: &mut String, number: u64) {
    out.push_str(itoa::Buffer::new().format(number));
}

/// Appends all hexadecimal digits of a number of 128 bits.
#[cfg(feature = "telemetry")]
pub(crate) fn append_hexadecimal(out: &mut String, number: u128) {
    let mut room = [0; 32];
    hexadecimal(number, &mut room);
    out.push_str(str::from_utf8(&room).unwrap_or_default());
}

/// Appends an address with its port.
#[cfg(feature = "telemetry")]
pub(crate) fn append_address(out: &mut String, address: SocketAddr) {
    match address {
        SocketAddr::V4(address) => {
            for (at, octet) in address.ip().octets().into_iter().enumerate() {
                out.push_str(if at == 0 { "" } else { "." });
                append_decimal(out, octet.into());
            }
            out.push(':');
            append_decimal(out, address.port().into());
        }
        SocketAddr::V6(address) => {
            let written = write!(out, "{address}");
            debug_assert!(written.is_ok(), "a String takes everything");
        }
    }
}

/// The last decimal digits of a number, as many as there is room for.
#[cfg(feature = "telemetry")]
pub(crate) fn padded(mut number: u64, room: &mut [u8]) {
    for digit in room.iter_mut().rev() {
        *digit = b"0123456789"[(number % 10) as usize];
        number /= 10;
    }
}

/// The last hexadecimal digits of a number, lower case, as many as there is room for.
pub(crate) fn hexadecimal(mut number: u128, room: &mut [u8]) {
    for digit in room.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 0xf) as usize];
        number >>= 4;
    }
}

#[cfg(all(test, feature = "engine"))]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_the_standard_library_writes_them() {
        for number in [0, 1, 9, 10, 99, 100, 12_345, u64::MAX] {
            assert_eq!(decimal(number), number.to_string());
            let mut room = [0; 20];
            hexadecimal(number.into(), &mut room);
            assert_eq!(room[..], *format!("{number:020x}").as_bytes());
            padded(number, &mut room);
            assert_eq!(room[..], *format!("{number:020}").as_bytes());
            let mut text = String::new();
            append_decimal(&mut text, number);
            append_hexadecimal(&mut text, u128::from(number) << 64);
            assert_eq!(text, format!("{number}{:032x}", u128::from(number) << 64));
        }
    }

    #[test]
    fn addresses_are_written_as_the_standard_library_writes_them() {
        for address in ["0.0.0.0:0", "10.96.255.1:65535", "[::1]:80", "[fe80::1%3]:80"] {
            let (mut text, address) = (String::new(), address.parse().unwrap());
            append_address(&mut text, address);
            assert_eq!(text, address.to_string());
        }
    }
}
