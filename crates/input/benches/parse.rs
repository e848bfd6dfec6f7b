//! What a line costs in the parse chain: `cargo bench -p pillion-input`. Prints nanoseconds for each line of about 200
//! bytes, in chunks of 64 KB.

#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "a measurement needs a clock and says its result")]

use std::time::Instant;

use pillion_input::parse::{
    Chain, ChainOptions, Chunk, Container, Flush, Grouping, Json, Match, Multiline, Parser, Pattern,
};

const LINES: usize = 320;
const ROUNDS: usize = 2_000;

fn measure(name: &str, options: ChainOptions, line: &str) {
    let chain = Chain::new(options);
    let file = line.repeat(LINES);
    let chunk = Chunk { len: file.len(), offset: 0, flush: Flush::All, read_ms: 0, max_events: usize::MAX };
    let (mut data, mut events) = (file.as_bytes().to_vec(), Vec::with_capacity(LINES));
    let began = Instant::now();
    for _ in 0..ROUNDS {
        events.clear();
        data.truncate(file.len());
        chain.parse(&mut data, &chunk, &mut events);
    }
    let ns = began.elapsed().as_nanos() / (ROUNDS * LINES) as u128;
    println!("{name:14} {ns:5} ns for each line of {} bytes", line.len());
    assert_eq!(events.len(), LINES);
}

fn with(parser: Parser) -> ChainOptions {
    ChainOptions { parsers: vec![parser], ..ChainOptions::default() }
}

fn main() -> Result<(), String> {
    let text = "x".repeat(199) + "\n";
    let cri = format!("2017-09-12T22:32:21.212861448Z stdout F {}\n", "x".repeat(159));
    let object = format!("{{\"level\":\"info\",\"n\":1,\"message\":\"{}\"}}\n", "x".repeat(162));
    let grouping =
        Grouping::Pattern { pattern: Pattern::new(r"^\s")?, negate: false, matching: Match::After, flush: None };
    let filter = ChainOptions { include_lines: vec![Pattern::new("x$")?], ..ChainOptions::default() };
    measure("plain", ChainOptions::default(), &text);
    measure("include_lines", filter, &text);
    measure("multiline", with(Parser::Multiline(Multiline::new(grouping))), &text);
    measure("cri", with(Parser::Container(Container::default())), &cri);
    measure("json", with(Parser::Json(Json::default())), &object);
    Ok(())
}
