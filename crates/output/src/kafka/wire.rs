//! Kafka's requests and answers, as far as a producer needs them.
//!
//! Comes in: what is asked; bytes from a broker. Goes out: a request's bytes with their length in front; answers. Only
//! versions without tagged fields, which all brokers from 0.11 to 4 speak: ApiVersions 0, Metadata 4, Produce 3 to 7,
//! InitProducerId 0 and 1, SaslHandshake 1, SaslAuthenticate 0. Facts: kafka.apache.org/protocol.
//!
//! Always holds: reading never goes beyond the bytes, whatever lengths they name; what doesn't fit is [`Malformed`], and
//! nothing is reserved for a count before its elements are there. Tested below and against a real broker.

use super::records::Producer;

/// An answer that isn't as the protocol says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Which request it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Api {
    Produce = 0,
    Metadata = 3,
    SaslHandshake = 17,
    /// ApiVersions.
    Versions = 18,
    InitProducerId = 22,
    SaslAuthenticate = 36,
}

/// A request as it grows.
pub(super) struct Request(Vec<u8>);

impl Request {
    /// The head of a request.
    pub(super) fn new(api: Api, version: i16, correlation: i32, client_id: &str) -> Request {
        let mut request = Request(vec![0; 4]);
        request.i16(api as i16);
        request.i16(version);
        request.i32(correlation);
        request.text(client_id);
        request
    }

    pub(super) fn i16(&mut self, n: i16) {
        self.0.extend_from_slice(&n.to_be_bytes());
    }

    pub(super) fn i32(&mut self, n: i32) {
        self.0.extend_from_slice(&n.to_be_bytes());
    }

    pub(super) fn bool(&mut self, b: bool) {
        self.0.push(u8::from(b));
    }

    /// A text of less than 32 KiB; what is longer is cut off.
    pub(super) fn text(&mut self, text: &str) {
        let bytes = text.as_bytes().get(..text.len().min(32_767)).unwrap_or_default();
        self.i16(bytes.len() as i16);
        self.0.extend_from_slice(bytes);
    }

    /// No text.
    pub(super) fn null(&mut self) {
        self.i16(-1);
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.i32(i32::try_from(bytes.len()).unwrap_or(i32::MAX));
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn count(&mut self, n: usize) {
        self.i32(i32::try_from(n).unwrap_or(i32::MAX));
    }

    /// The whole request, with its length.
    pub(super) fn finish(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len() - 4).unwrap_or(u32::MAX);
        if let Some(head) = self.0.first_chunk_mut::<4>() {
            *head = length.to_be_bytes();
        }
        self.0
    }
}

/// What is left of an answer.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*head)
    }

    fn slice(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.0.split_at_checked(n).ok_or(Malformed)?;
        self.0 = rest;
        Ok(head)
    }

    pub(super) fn i16(&mut self) -> Result<i16, Malformed> {
        self.take().map(i16::from_be_bytes)
    }

    pub(super) fn i32(&mut self) -> Result<i32, Malformed> {
        self.take().map(i32::from_be_bytes)
    }

    pub(super) fn i64(&mut self) -> Result<i64, Malformed> {
        self.take().map(i64::from_be_bytes)
    }

    fn bool(&mut self) -> Result<bool, Malformed> {
        self.take::<1>().map(|[b]| b != 0)
    }

    /// A text; none is an empty one.
    pub(super) fn text(&mut self) -> Result<String, Malformed> {
        match self.i16()? {
            -1 => Ok(String::new()),
            n => {
                let bytes = self.slice(usize::try_from(n).map_err(|_| Malformed)?)?;
                Ok(String::from_utf8_lossy(bytes).into_owned())
            }
        }
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        match self.i32()? {
            -1 => Ok(&[]),
            n => self.slice(usize::try_from(n).map_err(|_| Malformed)?),
        }
    }

    /// A list; none is an empty one.
    pub(super) fn list<T>(
        &mut self,
        mut read: impl FnMut(&mut Reader<'a>) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let n = self.i32()?;
        let mut out = Vec::new();
        for _ in 0..n {
            out.push(read(self)?);
        }
        Ok(out)
    }
}

/// A broker, as the cluster names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) id: i32,
    pub(super) host: String,
    pub(super) port: i32,
}

/// A partition, and who leads it; -1 = nobody now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Partition {
    pub(super) id: i32,
    pub(super) leader: i32,
}

/// A topic, or the code for why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Topic {
    pub(super) error: i16,
    pub(super) name: String,
    /// By growing ids.
    pub(super) partitions: Vec<Partition>,
}

/// Metadata, version 4: asks for these topics, which the broker may create.
pub(super) fn metadata<'t>(topics: impl ExactSizeIterator<Item = &'t str>, request: &mut Request) {
    request.count(topics.len());
    topics.for_each(|topic| request.text(topic));
    request.bool(true);
}

pub(super) fn read_metadata(r: &mut Reader<'_>) -> Result<(Vec<Node>, Vec<Topic>), Malformed> {
    r.i32()?;
    let nodes = r.list(|r| {
        let node = Node { id: r.i32()?, host: r.text()?, port: r.i32()? };
        r.text()?;
        Ok(node)
    })?;
    r.text()?;
    r.i32()?;
    let topics = r.list(|r| {
        let (error, name) = (r.i16()?, r.text()?);
        r.bool()?;
        let mut partitions = r.list(|r| {
            r.i16()?;
            let partition = Partition { id: r.i32()?, leader: r.i32()? };
            r.list(Reader::i32)?;
            r.list(Reader::i32)?;
            Ok(partition)
        })?;
        partitions.sort_by_key(|p| p.id);
        Ok(Topic { error, name, partitions })
    })?;
    Ok((nodes, topics))
}

/// What became of the records of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Produced {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) error: i16,
}

pub(super) fn read_produced(r: &mut Reader<'_>, version: i16) -> Result<Vec<Produced>, Malformed> {
    let topics = r.list(|r| {
        let topic = r.text()?;
        r.list(|r| {
            let (partition, error) = (r.i32()?, r.i16()?);
            r.i64()?;
            r.i64()?;
            if version >= 5 {
                r.i64()?;
            }
            Ok(Produced { topic: topic.clone(), partition, error })
        })
    })?;
    Ok(topics.into_iter().flatten().collect())
}

/// The error, id and epoch of a producer.
pub(super) fn read_producer(r: &mut Reader<'_>) -> Result<(i16, Producer), Malformed> {
    r.i32()?;
    Ok((r.i16()?, Producer { id: r.i64()?, epoch: r.i16()? }))
}

/// The versions of each API that a broker speaks, as (API, least, most).
pub(super) fn read_versions(r: &mut Reader<'_>) -> Result<Vec<(i16, i16, i16)>, Malformed> {
    r.i16()?;
    r.list(|r| Ok((r.i16()?, r.i16()?, r.i16()?)))
}

/// For the fuzz target: any bytes are an answer of each kind or malformed, and what is read was there.
pub fn fuzz_answers(data: &[u8]) {
    let is_within = |left: &Reader<'_>| assert!(left.0.len() <= data.len(), "more is left than was there");
    let mut left = Reader(data);
    if let Ok((nodes, topics)) = read_metadata(&mut left) {
        let least = 10 * nodes.len() + 9 * topics.len();
        assert!(least <= data.len(), "{} brokers and {} topics in {} bytes", nodes.len(), topics.len(), data.len());
    }
    is_within(&left);
    for version in [3, 7] {
        let mut left = Reader(data);
        let _ = read_produced(&mut left, version);
        is_within(&left);
    }
    let _ = (read_producer(&mut Reader(data)), read_versions(&mut Reader(data)));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// With many zeros, so that counts and lengths are small often enough.
        #[test]
        fn any_bytes_are_an_answer_or_malformed(
            bytes in prop::collection::vec(prop_oneof![4 => Just(0_u8), 2 => 0_u8..4, 1 => any::<u8>()], 0..200),
        ) {
            fuzz_answers(&bytes);
        }
    }

    #[test]
    fn a_request_begins_with_its_length_and_who_asks() {
        let mut request = Request::new(Api::Metadata, 4, 7, "c");
        metadata(["t"].into_iter(), &mut request);
        let want = [0, 0, 0, 19, 0, 3, 0, 4, 0, 0, 0, 7, 0, 1, b'c', 0, 0, 0, 1, 0, 1, b't', 1];
        assert_eq!(request.finish(), want);
    }

    #[test]
    fn answers_are_read_and_a_part_of_one_never_panics() {
        let mut bytes = Request(Vec::new());
        bytes.i32(0);
        bytes.count(1);
        bytes.i32(5);
        bytes.text("h");
        bytes.i32(9092);
        bytes.null();
        bytes.null();
        bytes.i32(5);
        bytes.count(1);
        bytes.i16(0);
        bytes.text("t");
        bytes.bool(false);
        bytes.count(1);
        for n in [0, 1, 5] {
            if n == 0 { bytes.i16(0) } else { bytes.i32(n) }
        }
        bytes.count(1);
        bytes.i32(5);
        bytes.count(0);
        let whole = bytes.0;
        let (nodes, topics) = read_metadata(&mut Reader(&whole)).unwrap();
        assert_eq!(nodes, [Node { id: 5, host: "h".into(), port: 9092 }]);
        assert_eq!(topics[0].partitions, [Partition { id: 1, leader: 5 }]);
        for end in 0..whole.len() {
            assert_eq!(read_metadata(&mut Reader(&whole[..end])), Err(Malformed), "cut at {end}");
        }
        assert_eq!(Reader(&[0x7f, 0xff, 0xff, 0xff]).list(Reader::i32), Err(Malformed));
        assert_eq!(Reader(&[0xff, 0xf0]).text(), Err(Malformed));
    }
}
