use pillion_deflate::{Compressor, Level};

use super::*;

fn small() -> Limits {
    Limits { window_events: 10, window_bytes: 4000, event_bytes: 100, nesting: 2 }
}

fn read(bytes: &[u8]) -> Result<Vec<Vec<String>>, ProtocolError> {
    let mut decoder = Decoder::new(small());
    let mut windows = Vec::new();
    for byte in bytes {
        decoder.input().push(*byte);
        while let Some(w) = decoder.next_window()? {
            windows.push(w.events().map(|e| String::from_utf8_lossy(e).into_owned()).collect());
            decoder.recycle(w);
        }
    }
    Ok(windows)
}

fn json(seq: u32, text: &str) -> Vec<u8> {
    [b"2J", &seq.to_be_bytes()[..], &(text.len() as u32).to_be_bytes(), text.as_bytes()].concat()
}

fn packed(frames: &[u8]) -> Vec<u8> {
    let mut z = Vec::new();
    Compressor::new(Container::Zlib, Level::new(3).unwrap()).compress(frames, &mut z);
    [b"2C", &(z.len() as u32).to_be_bytes()[..], &z].concat()
}

fn window(count: u32, frames: &[u8]) -> Vec<u8> {
    [b"2W", &count.to_be_bytes()[..], frames].concat()
}

#[test]
fn what_is_read() {
    let two = [json(1, "{}"), json(2, "[1]")].concat();
    let v1 = b"1D\0\0\0\x01\0\0\0\x02\0\0\0\x04line\0\0\0\x03a\"\n\0\0\0\x04host\0\0\0\x01h";
    type Row = (&'static str, Vec<u8>, &'static [&'static [&'static str]]);
    let table: [Row; 8] = [
        ("plain", window(2, &two), &[&["{}", "[1]"]]),
        ("compressed", window(2, &packed(&two)), &[&["{}", "[1]"]]),
        ("compressed twice", window(2, &packed(&packed(&two))), &[&["{}", "[1]"]]),
        ("both", window(2, &[packed(&json(1, "{}")), json(2, "[1]")].concat()), &[&["{}", "[1]"]]),
        ("empty, then one", [window(0, b""), window(1, &json(1, "{}"))].concat(), &[&[], &["{}"]]),
        ("sequences go on", window(1, &json(70, "{}")), &[&["{}"]]),
        ("an empty event", window(1, &json(1, "")), &[&[""]]),
        ("version 1", [b"1W\0\0\0\x01", &v1[..]].concat(), &[&["{\"line\":\"a\\\"\\u000a\",\"host\":\"h\"}"]]),
    ];
    for (name, bytes, want) in table {
        assert_eq!(read(&bytes).unwrap(), want, "{name}");
    }
}

#[test]
fn what_is_refused() {
    let zeros = packed(&vec![0; 4001]);
    let deep = packed(&packed(&packed(&json(1, "{}"))));
    let long = json(1, &" ".repeat(101));
    let eleven: Vec<u8> = (1..=41).flat_map(|i| json(i, &" ".repeat(100))).collect();
    let half = packed(&json(1, "{}")[..11]);
    let table: [(&str, Vec<u8>, ProtocolError); 14] = [
        ("HTTP", b"GET / HTTP".to_vec(), ProtocolError::Version(b'G')),
        ("TLS", b"\x16\x03\x01".to_vec(), ProtocolError::Version(0x16)),
        ("an unknown frame", b"2X".to_vec(), ProtocolError::FrameType(b'X')),
        ("an acknowledgement", b"2A\0\0\0\0".to_vec(), ProtocolError::FrameType(b'A')),
        ("data without a window", json(1, "{}"), ProtocolError::BeyondWindow),
        ("too much data", window(1, &packed(&[json(1, ""), json(2, "")].concat())), ProtocolError::BeyondWindow),
        ("a large window", window(11, b""), ProtocolError::WindowTooLarge { count: 11, max: 10 }),
        ("a long event", window(1, &long), ProtocolError::FrameTooLarge { len: 101, max: 100 }),
        ("a window in a window", [window(2, &json(1, "{}")), window(1, b"")].concat(), {
            ProtocolError::WindowIncomplete { missing: 1 }
        }),
        ("a window in a compressed frame", window(1, &packed(&window(1, b""))), ProtocolError::FrameType(b'W')),
        ("a bomb", window(1, &zeros), ProtocolError::WindowBytes { max: 4000 }),
        ("nested too deep", window(1, &deep), ProtocolError::Nesting(2)),
        ("half a frame", window(1, &half), ProtocolError::SplitFrame),
        ("sequences that shrink", window(2, &[json(2, ""), json(2, "")].concat()), {
            ProtocolError::Sequence { seq: 2, last: 2 }
        }),
    ];
    for (name, bytes, want) in table {
        assert_eq!(read(&bytes).unwrap_err(), want, "{name}");
        fuzz_windows(&bytes);
    }
    let mut decoder = Decoder::new(Limits { window_events: 100, ..small() });
    decoder.input().extend_from_slice(&window(41, &eleven));
    assert_eq!(decoder.next_window().unwrap_err(), ProtocolError::WindowBytes { max: 4000 });
}

#[test]
fn announced_lengths_take_no_memory() {
    let mut decoder = Decoder::new(Limits::default());
    decoder.input().extend_from_slice(b"2W\0\0\xff\xff2C\x03\0\0\0abc");
    assert!(decoder.next_window().unwrap().is_none());
    assert!(decoder.input.capacity() < 1024 && decoder.window.as_ref().unwrap().events.capacity() == 0);
}
