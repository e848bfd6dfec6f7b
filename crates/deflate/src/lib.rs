//! Compression of what travels: zlib (Lumberjack's `C` frames) and gzip (HTTP bodies).
//!
//! - [`Compressor`]: bytes in pieces in, a zlib or gzip stream appended to a caller's buffer. Used again and again, it
//!   allocates nothing.
//! - [`Inflater`]: a stream in pieces in, its bytes out, never more than a limit that the caller gives.
//!
//! Always holds: neither side keeps more than its fixed tables; a stream that would inflate beyond the limit is an
//! error before its bytes are made. No knowledge of any other crate. Tested in each module, and by the fuzz targets
//! `inflate` and `deflate_roundtrip`.

mod compress;
mod inflate;

pub use compress::{Compressor, Container, Level, fuzz_roundtrip};
pub use inflate::{InflateError, Inflater, fuzz_inflate};
