//! Lumberjack v2 from the listening side: windows in, one acknowledgement for each.
//!
//! The frames, all numbers big-endian: `2W count`, `2J sequence length JSON`, `2C length zlib(frames)`; the answer is
//! `2A sequence`.

use std::io::{self, BufReader, Read, Write};
use std::net::TcpStream;

use flate2::read::ZlibDecoder;

use super::tally::Tally;

const MOST: u32 = 64 * 1024 * 1024;

/// Serves one connection to its end.
pub(super) fn serve(stream: TcpStream, tally: &Tally) -> io::Result<()> {
    let mut answer = stream.try_clone()?;
    let mut stream = BufReader::with_capacity(64 * 1024, stream);
    let mut window = Window { left: 0, last: 0 };
    loop {
        frame(&mut stream, &mut window, tally, 0)?;
        if window.left == 0 {
            let mut ack = *b"2A\0\0\0\0";
            ack[2..].copy_from_slice(&window.last.to_be_bytes());
            answer.write_all(&ack)?;
            tally.acknowledged();
        }
    }
}

struct Window {
    left: u32,
    last: u32,
}

fn frame(stream: &mut dyn Read, window: &mut Window, tally: &Tally, depth: u8) -> io::Result<()> {
    let mut head = [0; 2];
    stream.read_exact(&mut head)?;
    match &head {
        b"2W" => {
            window.left = number(stream)?;
            window.last = 0;
            // A window of nothing is acknowledged at once, by the caller.
            if window.left > 0 { frame(stream, window, tally, depth) } else { Ok(()) }
        }
        b"2J" => {
            window.last = number(stream)?;
            let event = payload(stream)?;
            window.left = window.left.checked_sub(1).ok_or_else(|| odd("more events than the window holds"))?;
            if tally.looks_inside() {
                tally.add(&event, None).map(drop).map_err(io::Error::from)
            } else {
                tally.show(&event);
                tally.add_unseen(1);
                Ok(())
            }
        }
        b"2C" if depth == 0 => {
            let packed = payload(stream)?;
            let mut inside = BufReader::with_capacity(64 * 1024, ZlibDecoder::new(packed.as_slice()));
            while window.left > 0 {
                frame(&mut inside, window, tally, 1)?;
            }
            Ok(())
        }
        _ => Err(odd("an unknown frame")),
    }
}

fn number(stream: &mut dyn Read) -> io::Result<u32> {
    let mut bytes = [0; 4];
    stream.read_exact(&mut bytes)?;
    Ok(u32::from_be_bytes(bytes))
}

fn payload(stream: &mut dyn Read) -> io::Result<Vec<u8>> {
    let length = number(stream)?;
    if length > MOST {
        return Err(odd("a payload that is too large"));
    }
    let mut bytes = vec![0; length as usize];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn odd(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}
