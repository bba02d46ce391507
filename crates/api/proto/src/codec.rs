//! Reading messages in bounded memory.

use std::marker::PhantomData;

use bytes::Buf as _;
use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// The most fields that a message has at its outermost level, each element of a
/// repeated field and each entry of a map counted.
///
/// An empty element takes two bytes on the wire and some two hundred in memory, so a
/// limit of the bytes alone would let a small message become a large one. Whatever is
/// useful has far fewer.
pub const MAX_FIELDS: usize = 256;

/// The codec of the service: protocol buffers of at most [`MAX_FIELDS`] fields. What
/// cannot be read is refused with `INVALID_ARGUMENT`.
#[derive(Clone, Copy, Debug)]
pub struct BoundedCodec<T, U>(PhantomData<fn(T) -> U>);

impl<T, U> Default for BoundedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for BoundedCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = Writer<T>;
    type Decoder = Reader<U>;

    fn encoder(&mut self) -> Self::Encoder {
        Writer(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        Reader(PhantomData)
    }
}

/// Writes messages.
#[derive(Clone, Copy, Debug)]
pub struct Writer<T>(PhantomData<fn(T)>);

impl<T: Message> Encoder for Writer<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(buffer)
            .map_err(|error| Status::internal(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

/// Reads messages.
#[derive(Clone, Copy, Debug)]
pub struct Reader<U>(PhantomData<fn() -> U>);

impl<U: Message + Default> Decoder for Reader<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let bytes = buffer.copy_to_bytes(buffer.remaining());
        if fields(&bytes).is_none_or(|fields| fields > MAX_FIELDS) {
            return Err(Status::invalid_argument(format!(
                "this is not a message of at most {MAX_FIELDS} fields"
            )));
        }
        U::decode(bytes)
            .map(Some)
            .map_err(|error| Status::invalid_argument(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

/// How many fields stand at the outermost level, as far as [`MAX_FIELDS`] and one
/// more; `None` when it is no message. Groups, which no message here has, are none.
/// (Protocol Buffers Documentation, "Encoding".)
fn fields(mut bytes: &[u8]) -> Option<usize> {
    let mut count = 0;
    while !bytes.is_empty() && count <= MAX_FIELDS {
        let tag = varint(&mut bytes)?;
        let length = match tag & 7 {
            0 => {
                varint(&mut bytes)?;
                0
            }
            1 => 8,
            2 => usize::try_from(varint(&mut bytes)?).ok()?,
            5 => 4,
            _ => return None,
        };
        bytes = bytes.get(length..)?;
        count += 1;
    }
    Some(count)
}

/// Takes a number of base 128, of at most ten bytes.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::authz::v1::{CheckBatchRequest, CheckRequest, SubmitRequest};

    fn batch(checks: usize) -> Vec<u8> {
        CheckBatchRequest {
            checks: vec![CheckRequest::default(); checks],
            rule: 1,
        }
        .encode_to_vec()
    }

    #[test]
    fn a_small_element_is_large_in_memory() {
        let size = size_of::<CheckRequest>();
        assert!(
            (150..=250).contains(&size),
            "{size}: MAX_FIELDS says otherwise"
        );
    }

    #[test]
    fn what_is_counted_is_what_a_message_has() {
        assert_eq!(fields(&[]), Some(0));
        assert_eq!(fields(&batch(0)), Some(1));
        assert_eq!(fields(&batch(100)), Some(101));
        assert_eq!(fields(&batch(1_000_000)), Some(MAX_FIELDS + 1));
        let submit = SubmitRequest {
            action: "a".repeat(300),
            units: Some(u64::MAX),
            ..SubmitRequest::default()
        };
        assert_eq!(fields(&submit.encode_to_vec()), Some(2));
        for cut in [&[0x0a][..], &[0x0a, 5, 1], &[0x80], &[0xff; 12], &[0x0b]] {
            assert_eq!(fields(cut), None, "{cut:?}");
        }
    }

    proptest! {
        #[test]
        fn what_prost_reads_is_counted(bytes: Vec<u8>) {
            let group = |bytes: &[u8]| bytes.iter().any(|byte| matches!(byte & 7, 3 | 4));
            if CheckRequest::decode(&*bytes).is_ok() && !group(&bytes) {
                prop_assert!(fields(&bytes).is_some());
            }
        }
    }
}
