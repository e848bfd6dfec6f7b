//! Files in other encodings than UTF-8, and with other line ends: tables, what Go's x/text 0.14 (Filebeat's decoder) makes
//! of each byte (`testdata/x-text-0.14.txt`), and the chain's promises as properties.

use pillion_event::Event;
use proptest::prelude::*;

use super::tests::{chains, files};
use super::*;

fn named(name: &str) -> Encoding {
    Encoding::named(name).unwrap()
}

fn decode(encoding: Encoding, bytes: &[u8]) -> String {
    String::from_utf8(encoding.decode(bytes, false, usize::MAX / 2).into_owned()).unwrap()
}

/// A text in an encoding; what isn't in it is a question mark.
fn encode(encoding: Encoding, text: &str) -> Vec<u8> {
    if let Encoding::Standard(standard) = encoding {
        let known = |c: &char| !standard.encode(&c.to_string()).2;
        return standard
            .encode(&text.chars().map(|c| if known(&c) { c } else { '?' }).collect::<String>())
            .0
            .into_owned();
    }
    let of = |c: char| encoding.find_by(c).or_else(|| encoding.find_by('?')).unwrap();
    text.chars().flat_map(of).collect()
}

/// The events' offsets, lengths and texts.
fn parse(options: ChainOptions, file: &[u8]) -> Vec<(u64, u32, String)> {
    let chain = Chain::new(options);
    let chain = chain.of_file(file).unwrap();
    let chunk = Chunk { len: file.len(), offset: 0, flush: Flush::All, read_ms: 1, max_events: usize::MAX };
    let (mut data, mut events) = (file.to_vec(), Vec::new());
    chain.parse(&mut data, &chunk, &mut events);
    chain.tidy(&mut data, &mut events);
    let text = |e: &Event| String::from_utf8(data[e.text.start as usize..e.text.end as usize].to_vec()).unwrap();
    events.iter().map(|e| (e.offset, e.len, text(e))).collect()
}

fn with(encoding: &str, terminator: Terminator) -> ChainOptions {
    ChainOptions { encoding: named(encoding), terminator, ..ChainOptions::default() }
}

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect()
}

#[test]
fn each_byte_is_what_it_is_to_filebeat() {
    let mut compared = 0;
    for line in include_str!("testdata/x-text-0.14.txt").lines() {
        let mut parts = line.splitn(3, ' ');
        let (name, second, third) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
        let Ok(first) = second.parse::<usize>() else {
            assert_eq!(decode(named(name), &unhex(second)), third, "{name}");
            continue;
        };
        for (at, code) in third.as_bytes().chunks(4).enumerate() {
            let code = u32::from_str_radix(std::str::from_utf8(code).unwrap(), 16).unwrap();
            let expect = char::from_u32(code).unwrap().to_string();
            let byte = (first + at) as u8;
            let got = decode(named(name), &[byte]);
            assert_eq!(got, expect, "{name} {byte:#04x}");
            compared += 1;
        }
    }
    assert!(compared > 7_000, "{compared} bytes compared");
}

#[test]
fn names() {
    for name in ["", "plain", "nop", "utf-8", "UTF8", "unicode-1-1-utf-8"] {
        assert_eq!(named(name), Encoding::Plain, "{name}");
    }
    assert_eq!(named(" UTF-16LE "), Encoding::Utf16 { big: false });
    for name in ["utf-7", "iso-8859-99", "replacement", "iso-2022-kr", "windows"] {
        assert!(Encoding::named(name).is_err(), "{name}");
    }
}

#[test]
fn what_is_not_in_an_encoding_is_replaced() {
    for (name, bytes, text) in [
        ("utf-16le", &b"a\0\x00\xd8b\0"[..], "a\u{fffd}b"),
        ("utf-16be", b"\0a\0", "a\u{fffd}"),
        ("gbk", b"a\xff\xd6", "a\u{fffd}\u{fffd}"),
        ("shift-jis", b"\x93", "\u{fffd}"),
        ("euc-kr", b"\xc7\nb", "\u{fffd}\nb"),
        ("hz-gb-2312", b"~x~~~{VP\x80~}a~", "\u{fffd}x~中\u{fffd}a\u{fffd}"),
    ] {
        assert_eq!(decode(named(name), bytes), text, "{name}");
    }
}

#[test]
fn a_mark_says_how_a_file_is_written() {
    let big = [&b"\xFE\xFF"[..], &encode(Encoding::Utf16 { big: true }, "aé\r\nb\n")].concat();
    let little = [&b"\xFF\xFE"[..], &encode(Encoding::Utf16 { big: false }, "aé\r\nb\n")].concat();
    let expect = [(0, 10, "aé".to_owned()), (10, 4, "b".to_owned())];
    for file in [&big, &little] {
        for name in ["utf-16-bom", "utf-16be-bom", "utf-16le-bom"] {
            assert_eq!(parse(with(name, Terminator::Auto), file), expect, "{name}");
        }
    }
    assert_eq!(parse(with("utf-16be", Terminator::Auto), &big), expect);
    assert_eq!(parse(with("utf-16le-bom", Terminator::Auto), &little[2..]), [(0, 8, "aé".into()), (8, 4, "b".into())]);
    assert!(Chain::new(with("utf-16-bom", Terminator::Auto)).of_file(&big[2..]).is_none());
    assert_eq!(decode(named("utf-16be"), b"\xFE\xFF"), "\u{feff}");
}

#[test]
fn lines_of_two_bytes_a_character_end_at_characters() {
    // 0x0A in the lower byte of one character and 0x00 in the higher one of the next are no line end, nor the other way round.
    let text = "\u{610a}\u{0061}\u{0a00}\u{0a61}\n";
    for (name, big) in [("utf-16be", true), ("utf-16le", false)] {
        let file = encode(Encoding::Utf16 { big }, text);
        assert_eq!(
            parse(with(name, Terminator::Auto), &file),
            [(0, 10, text.trim_end_matches('\n').to_owned())],
            "{name}"
        );
    }
    // Behind a half character at the end of what was once all of a file, characters begin where they always did.
    let chain = Chain::new(with("utf-16le", Terminator::Auto));
    let (mut data, mut events) = (b"\0a\0\n\0".to_vec(), Vec::new());
    let chunk = Chunk { len: 5, offset: 3, flush: Flush::No, read_ms: 1, max_events: 9 };
    assert_eq!(chain.parse(&mut data, &chunk, &mut events).consumed, 5);
    assert_eq!(&data[events[0].text.start as usize..events[0].text.end as usize], "\u{fffd}a".as_bytes());
}

#[test]
fn line_terminators() {
    let cases = [
        (Terminator::Auto, "\n"),
        (Terminator::LineFeed, "\n"),
        (Terminator::VerticalTab, "\u{b}"),
        (Terminator::FormFeed, "\u{c}"),
        (Terminator::CarriageReturn, "\r"),
        (Terminator::CarriageReturnLineFeed, "\r\n"),
        (Terminator::NextLine, "\u{85}"),
        (Terminator::LineSeparator, "\u{2028}"),
        (Terminator::ParagraphSeparator, "\u{2029}"),
        (Terminator::NullTerminator, "\0"),
    ];
    for (terminator, end) in cases {
        for name in ["plain", "utf-16le", "utf-16be", "iso8859-1", "ebcdic-037", "gbk"] {
            if LineEnd::new(terminator, named(name)).is_none() {
                assert!(end.chars().any(|c| c > '\x7f') && !name.starts_with("utf"), "{name} {terminator:?}");
                continue;
            }
            // A line feed belongs to the text where it ends no line, and a lone carriage return always.
            let other = if end.contains('\n') { "a\rb" } else { "a\nb" };
            let file = encode(named(name), &format!("{other}{end}{end}c{end}d"));
            let texts: Vec<_> = parse(with(name, terminator), &file).into_iter().map(|(_, _, text)| text).collect();
            assert_eq!(texts, [other, "c", "d"], "{name} {terminator:?}");
        }
    }
    assert_eq!(parse(with("plain", Terminator::CarriageReturnLineFeed), b"a\nb\r\r\n"), [(0, 6, "a\nb\r".into())]);
    let latin = parse(with("iso8859-1", Terminator::NextLine), b"a\x85b\x85");
    assert_eq!(latin, [(0, 2, "a".into()), (2, 2, "b".into())]);
    assert!(LineEnd::new(Terminator::LineSeparator, named("gb18030")).is_none());
}

#[test]
fn a_text_is_cut_by_its_own_length() {
    let cut = |name: &str, max_bytes, text: &str| {
        let options = ChainOptions { max_bytes, ..with(name, Terminator::Auto) };
        parse(options, &encode(named(name), text)).into_iter().map(|(_, _, text)| text).collect::<Vec<_>>()
    };
    assert_eq!(cut("utf-16le", 4, "\u{feff}abcd\r\nabcde\nx\n"), ["abcd", "abcd", "x"]);
    assert_eq!(cut("latin1", 4, "éé\nééé\n"), ["éé", "éé"]);
    assert_eq!(cut("utf-16be", 6, "日本\r\n日本語\n"), ["日本", "日本"]);
}

const ENCODINGS: [&str; 14] = [
    "utf-16le",
    "utf-16be",
    "latin1",
    "iso8859-1",
    "gbk",
    "gb18030",
    "big5",
    "shift-jis",
    "euc-jp",
    "euc-kr",
    "iso-2022-jp",
    "hz-gb-2312",
    "ebcdic-037",
    "cp437",
];

fn encodings() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&ENCODINGS[..])
}

fn terminators() -> impl Strategy<Value = Terminator> {
    let all = [Terminator::Auto, Terminator::LineFeed, Terminator::CarriageReturn, Terminator::CarriageReturnLineFeed];
    prop::sample::select(all.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_chunking_gives_the_same_events(
        options in chains(), name in encodings(), terminator in terminators(), file in files(), more in "[é日\u{a0a}語\n]{0,6}",
        cuts in prop::collection::vec(1usize..60, 1..8), budget in 1usize..200,
    ) {
        let chain = Chain::new(ChainOptions { encoding: named(name), terminator, ..options });
        let file = encode(named(name), &(file + &more));
        check::holds(&chain, &file, &cuts, budget).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn any_bytes_in_any_encoding(
        options in chains(), name in encodings(), terminator in terminators(),
        file in prop::collection::vec(prop_oneof![Just(0u8), Just(b'\n'), Just(b'\r'), any::<u8>()], 0..100),
        cuts in prop::collection::vec(1usize..9, 1..8), budget in 1usize..40,
    ) {
        let chain = Chain::new(ChainOptions { encoding: named(name), terminator, ..options });
        check::holds(&chain, &file, &cuts, budget).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn a_file_gives_the_same_texts_as_in_utf8(options in chains(), name in encodings(), file in files()) {
        let options = ChainOptions { max_bytes: 1_000, ..options };
        let texts = |events: Vec<(u64, u32, String)>| events.into_iter().map(|(_, _, text)| text).collect::<Vec<_>>();
        let plain = texts(parse(options.clone(), encode(Encoding::Plain, &file.replace('\u{feff}', "?")).as_slice()));
        let encoded = encode(named(name), &file.replace('\u{feff}', "?"));
        let options = ChainOptions { encoding: named(name), ..options };
        prop_assert_eq!(texts(parse(options, &encoded)), plain);
    }
}
