//! Whether a new connection is still there a moment later.

use std::time::Duration;

use tokio::io::AsyncReadExt;

use crate::dial::Stream;
use crate::problem::Problem;
use crate::tls::explain_io;

/// How long a server is listened to that should say nothing.
const LISTEN: Duration = Duration::from_millis(500);

/// Whether a new connection is still there a moment later: with TLS 1.3 a server checks a client's certificate only
/// after the client's handshake is done, and a proxy may take connections that it can't pass on.
pub(super) async fn stays(stream: &mut Stream) -> Result<(), Problem> {
    match tokio::time::timeout(LISTEN, stream.read(&mut [0])).await {
        Err(_) => Ok(()),
        Ok(Ok(0)) => Err(Problem::new(
            "the server closed the connection at once",
            "Does the port speak the Beats protocol, and does it want TLS?",
        )),
        Ok(Ok(_)) => Err(Problem::new(
            "the server speaks first, which the Beats protocol doesn't",
            "Is this the port of Logstash's input `beats`?",
        )),
        Ok(Err(e)) => Err(explain_io(&e)),
    }
}
