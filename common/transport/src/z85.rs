//! A decoder of Z85, the text format of keys: five characters for four bytes, as
//! [RFC 32](https://rfc.zeromq.org/spec/32/) specifies.
//!
//! libzmq has one, too, but crate `zmq` ignores its errors and leaves copies of secrets in memory.

use zeroize::Zeroizing;

/// The characters for 0 to 84.
const DIGITS: &[u8; 85] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";

/// Decodes a text; `None` if it is not Z85, or not of this number of bytes.
pub(crate) fn decode<const BYTES: usize>(text: &str) -> Option<Zeroizing<[u8; BYTES]>> {
    let (groups, rest) = text.as_bytes().as_chunks::<5>();
    if !rest.is_empty() || groups.len() * 4 != BYTES {
        return None;
    }
    let mut bytes = Zeroizing::new([0; BYTES]);
    for (four, five) in bytes.chunks_exact_mut(4).zip(groups) {
        four.copy_from_slice(&group(five)?.to_be_bytes());
    }
    Some(bytes)
}

/// Decodes five characters; `None` if one is invalid or the number exceeds 32 bits.
fn group(five: &[u8; 5]) -> Option<u32> {
    five.iter().try_fold(0_u32, |number, character| {
        let digit = DIGITS.iter().position(|digit| digit == character)?;
        number.checked_mul(85)?.checked_add(u32::try_from(digit).ok()?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn z85_is_decoded_and_nothing_else() {
        // The example of RFC 32.
        assert_eq!(*decode::<8>("HelloWorld").unwrap(), [0x86, 0x4f, 0xd2, 0x6f, 0xb5, 0x59, 0xf7, 0x5b]);
        assert_eq!(*decode::<4>("%nSc0").unwrap(), [0xff; 4]);
        assert_eq!(*decode::<4>("00000").unwrap(), [0; 4]);
        assert_eq!(*decode::<0>("").unwrap(), [0; 0]);
        for bad in
            ["%nSc1", "#####", "0000~", "_0000", "0000 ", "0000\0", "000\u{e9}", "0000", "000000", "", "0000000000"]
        {
            assert_eq!(decode::<4>(bad), None, "{bad}");
        }
    }

    #[test]
    fn it_agrees_with_libzmq() {
        for seed in 0_u8..100 {
            let bytes: [u8; 32] = std::array::from_fn(|i| seed.wrapping_mul(151).wrapping_add((i * i * 37) as u8));
            assert_eq!(*decode::<32>(&zmq::z85_encode(&bytes).unwrap()).unwrap(), bytes);
        }
    }
}
