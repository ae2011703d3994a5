//! Numbers as text, on the way of every request: without the machinery of formatting, and without an allocation for the
//! smallest ones.

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
        }
    }
}
