//! Edits in YAML of every style, and what can't be edited.
#![expect(clippy::unwrap_used, reason = "a failure in a test's helper is a failure of the test")]

use pillion_kube::inject::Edit;
use pillion_kube::yaml::{edit, locate, read, split};
use serde_json::{Value, json};

fn add(at: &str, value: Value) -> Edit {
    Edit::Add { at: at.into(), value }
}

fn replace(at: &str, value: Value) -> Edit {
    Edit::Replace { at: at.into(), value }
}

/// Makes the edits, and compares the text to the letter.
#[track_caller]
fn becomes(text: &str, edits: &[Edit], after: &str) {
    let edited = edit(text, edits).unwrap();
    assert_eq!(edited.text, after, "\n--- is\n{}\n--- should be\n{after}", edited.text);
}

#[test]
fn keys_are_added_where_their_siblings_stand() {
    let key = [add("/a/x", json!({"w": ["1", 2]}))];
    becomes("a:\n  b: 1 # c\n# d\ne: 2\n", &key, "a:\n  b: 1 # c\n  x:\n    w:\n      - \"1\"\n      - 2\n# d\ne: 2\n");
    becomes("a:\n    b: 1", &key, "a:\n    b: 1\n    x:\n        w:\n          - \"1\"\n          - 2");
    becomes("a: {b: 1} # c\n", &key, "a: {b: 1, x: {w: [\"1\", 2]}} # c\n");
    becomes("a: {}\n", &key, "a: {x: {w: [\"1\", 2]}}\n");
    becomes("a: {b: 1,\n    c: ,}\n", &key, "a: {b: 1,\n    c:,\n    x: {w: [\"1\", 2]} ,}\n");
    becomes("a:\r\n  b: 1\r\nc: 2\r\n", &[add("/a/x", json!("w"))], "a:\r\n  b: 1\r\n  x: w\r\nc: 2\r\n");
    becomes("é: ü\na:\n  b: ß # ö\n", &[add("/a/x", json!("ä"))], "é: ü\na:\n  b: ß # ö\n  x: \"ä\"\n");
    becomes(
        "a:\n  b: 1\n  # d: 1\n    # e\n # f\n",
        &[add("/a/x", json!(1))],
        "a:\n  b: 1\n  # d: 1\n    # e\n  x: 1\n # f\n",
    );
    becomes("- a:\n  - b: 1\n\n# end\n", &[add("/0/a/0/x", json!(1))], "- a:\n  - b: 1\n    x: 1\n\n# end\n");
}

#[test]
fn after_a_block_scalar_comes_the_next_line() {
    becomes(
        "a:\n  b: |\n    x\n\n    # no comment\nc: 1\n",
        &[add("/a/x", json!(1))],
        "a:\n  b: |\n    x\n\n    # no comment\n  x: 1\nc: 1\n",
    );
    becomes("a:\n  b: |+\n    x\n\n\nc: 1\n", &[add("/a/x", json!(1))], "a:\n  b: |+\n    x\n\n\n  x: 1\nc: 1\n");
    becomes("a:\n  b: >-\n    x", &[add("/a/x", json!(1))], "a:\n  b: >-\n    x\n  x: 1");
}

#[test]
fn items_are_added_at_both_ends() {
    let both = [add("/a/-", json!({"k": 1, "m": {}})), add("/a/0", json!("first"))];
    becomes("a:\n- b # c\nd: 1\n", &both, "a:\n- first\n- b # c\n- k: 1\n  m: {}\nd: 1\n");
    becomes("a:\n  -   b\n", &both, "a:\n  - first\n  -   b\n  - k: 1\n    m: {}\n");
    becomes("a: [b]\n", &both, "a: [first, b, {k: 1, m: {}}]\n");
    becomes("a: [b, # c\n    d, # e\n]\n", &[add("/a/-", json!(1))], "a: [b, # c\n    d,\n    1, # e\n]\n");
    becomes("a:\n- - b\n", &[add("/a/-", json!(1)), add("/a/0/-", json!(2))], "a:\n- - b\n  - 2\n- 1\n");
    becomes("a:\n- # c\n  b: 1\n", &[add("/a/-", json!(1))], "a:\n- # c\n  b: 1\n- 1\n");
    becomes("- - a\n", &[add("/0/0", json!(1)), add("/0/-", json!([2]))], "- - 1\n  - a\n  - - 2\n");
}

#[test]
fn values_are_replaced_and_comments_stay() {
    becomes("a: 30 # s\n", &[replace("/a", json!(60))], "a: 60 # s\n");
    becomes("a:\nb: 1\n", &[replace("/a", json!([1]))], "a:\n  - 1\nb: 1\n");
    becomes("a: # why\nb: 1\n", &[replace("/a", json!({"x": 1}))], "a: # why\n  x: 1\nb: 1\n");
    becomes("a: [] # c\n", &[replace("/a", json!([{"x": 1}]))], "a: # c\n  - x: 1\n");
    becomes("a: 'x' # c\n", &[replace("/a", json!("l\nm\n"))], "a: | # c\n  l\n  m\n");
    becomes(
        "a: [b, # one\n    c] # two\n",
        &[replace("/a", json!(["x\ny", "z"]))],
        "a: # two\n  # one\n  - |-\n    x\n    y\n  - z\n",
    );
    becomes("- {a: 1} # c\n- 2\n", &[replace("/0", json!({"b": 1}))], "- {b: 1} # c\n- 2\n");
    becomes("- a: 1 # c\n- 2\n", &[replace("/0", json!({"b": 1}))], "- # c\n  b: 1\n- 2\n");
    becomes("a: &n [1]\n", &[replace("/a", json!({"b": "x\ny\n"}))], "a: &n\n  b: |\n    x\n    y\n");
    becomes("a: {b: , c: null}\n", &[replace("/a/b", json!([1])), replace("/a/c", json!({}))], "a: {b: [1] , c: {}}\n");
}

#[test]
fn words_of_several_lines_turn_a_list_into_lines() {
    let words = [add("/a/0", json!("sh")), add("/a/1", json!("x\ny\n"))];
    becomes("a: [\"p\", q] # c\n", &words, "a: # c\n  - sh\n  - |\n    x\n    y\n  - p\n  - q\n");
    becomes("a:\n  - p # c\n", &words, "a:\n  - sh\n  - |\n    x\n    y\n  - p # c\n");
}

#[test]
fn json_stays_json() {
    let edits = [add("/a/x", json!({"w": [1]})), add("/l/-", json!("z")), replace("/e", json!({"k": {}}))];
    becomes(
        "{\n  \"a\": {\n    \"b\": 1\n  },\n  \"l\": [\n    1\n  ],\n  \"e\": null\n}\n",
        &edits,
        "{\n  \"a\": {\n    \"b\": 1,\n    \"x\": {\n      \"w\": [\n        1\n      ]\n    }\n  },\n  \"l\": [\n    1,\n    \"z\"\n  ],\n  \"e\": {\n    \"k\": {}\n  }\n}\n",
    );
    becomes(
        "{\"a\":{\"b\":1},\"l\":[1],\"e\":[]}",
        &edits,
        "{\"a\":{\"b\":1,\"x\":{\"w\":[1]}},\"l\":[1,\"z\"],\"e\":{\"k\":{}}}",
    );
    becomes(
        "{\n\t\"a\": {\n\t\t\"b\": \"\\t\"\n\t},\n\t\"e\": {}\n}\n",
        &[add("/a/x", json!([1])), add("/e/f", json!(2))],
        "{\n\t\"a\": {\n\t\t\"b\": \"\\t\",\n\t\t\"x\": [\n\t\t\t1\n\t\t]\n\t},\n\t\"e\": {\n\t\t\"f\": 2\n\t}\n}\n",
    );
}

#[test]
fn what_an_anchor_shares_is_written_out_before_it_changes() {
    let shared = "a: &x\n  b: 1 # c\nd: *x\ne: *x\n";
    let edited = edit(shared, &[add("/a/k", json!(2))]).unwrap();
    assert_eq!(edited.text, "a: &x\n  b: 1 # c\n  k: 2\nd:\n  b: 1\ne:\n  b: 1\n");
    assert_eq!(edited.notes.len(), 2);
    becomes(shared, &[add("/d/k", json!(2))], "a: &x\n  b: 1 # c\nd:\n  b: 1\n  k: 2\ne: *x\n");
    becomes(shared, &[replace("/d", json!(2))], "a: &x\n  b: 1 # c\nd: 2\ne: *x\n");
    becomes(
        "a: &x\n  b: {c: 1}\nd:\n  <<: *x\n",
        &[add("/d/b/k", json!(2))],
        "a: &x\n  b: {c: 1}\nd:\n  <<: *x\n  b:\n    c: 1\n    k: 2\n",
    );
    becomes("a: &x [1]\nb: {c: *x}\n", &[add("/a/-", json!(2))], "a: &x [1, 2]\nb: {c: [1]}\n");
}

#[test]
fn what_a_text_means_is_read_as_kubectl_reads_it() {
    let text = "a: yes\nb: 'yes'\nc: 0644\nd: 1.5\ne: 0x1F\nf: ~\ng: 1.2.3\nh: 10m\ni: !!str 5\nj: -3\nk: \"\"\nl: on\nm: +7\nn: .\no: 08\n";
    let value = json!({"a": true, "b": "yes", "c": 420, "d": 1.5, "e": 31, "f": null, "g": "1.2.3", "h": "10m", "i": "5",
        "j": -3, "k": "", "l": true, "m": 7, "n": ".", "o": 8.0});
    let is = read(text).unwrap().unwrap();
    for (key, value) in value.as_object().unwrap() {
        if key != "o" {
            assert_eq!(is[key], *value, "{key}");
        }
    }
    assert_eq!(read("# nothing\n").unwrap(), None);
    assert_eq!(read("? [a]\n: b\n").unwrap(), None);
}

#[test]
fn streams_are_split_and_joined() {
    for text in [
        "a: 1\n---\nb: 2\n",
        "--- # first\na: 1\n---\n# only a comment\n---\nb: |\n  ---x\n",
        "%YAML 1.2\n---\na: 1\n...\n# between\n%YAML 1.2\n---\nb: 1\n",
        "",
        "# nothing\n",
        "\u{feff}a: é\n---\nb: 1",
        "{\n\t\"a\": 1\n}",
    ] {
        let parts = split(text).unwrap();
        assert_eq!(parts.concat(), text);
        parts.iter().for_each(|part| drop(read(part).unwrap()));
    }
    assert_eq!(split("a: 1\n---\nb: 2\n").unwrap(), ["a: 1\n", "---\nb: 2\n"]);
}

#[test]
fn bad_texts_are_told_with_their_place() {
    let deep = "[".repeat(3000);
    let nested = format!("{}1", "a: {".repeat(150));
    for (text, line, column, words) in [
        ("a: 1\n\tb: 2\n", 1, 4, "tab"),
        ("a: 1\na: 2\n", 2, 1, "twice"),
        ("a: [1\n", 2, 1, "not valid YAML"),
        ("a: {{ x }}\n", 1, 5, "mapping"),
        ("a: *x\n", 1, 4, "unknown anchor"),
        ("a: &x [*x]\n", 1, 8, "inside"),
        (&deep, 1, 0, ""),
        (&nested, 1, 0, ""),
    ] {
        let fault =
            split(text).and_then(|parts| parts.into_iter().try_for_each(|part| read(part).map(drop))).unwrap_err();
        assert_eq!(fault.line, line, "{fault}");
        assert!(column == 0 || fault.column == column, "{fault}");
        assert!(fault.reason.contains(words) && !fault.remedy.is_empty(), "{fault}");
    }
    let long = " ".repeat(10 << 20);
    assert!(split(&long).unwrap_err().reason.contains("8 MiB"));
    let bomb = format!(
        "a0: &a0 [1,1]\n{}",
        (1..30).map(|i| format!("a{i}: &a{i} [*a{0},*a{0}]\n", i - 1)).collect::<String>()
    );
    assert!(read(&bomb).unwrap_err().reason.contains("values"));
}

#[test]
fn what_cannot_be_edited_is_told() {
    for (text, edit_of_it) in [
        ("a: 1\n", add("/b/c", json!(1))),
        ("a: 1\n", replace("/b", json!(1))),
        ("a: [1]\n", add("/a/7", json!(1))),
        ("# c\n", add("/a", json!(1))),
        ("a: 1\n", replace("", json!(1))),
    ] {
        let fault = edit(text, &[edit_of_it]).unwrap_err();
        assert!(fault.line > 0 && !fault.remedy.is_empty(), "{fault}");
    }
}

#[test]
fn places_are_found() {
    assert_eq!(locate("a:\n  b:\n    - c: 1\n", "/a/b/0/c"), (3, 7));
    assert_eq!(locate("a:\n  b: 1\n", "/a/x/y"), (1, 1));
    assert_eq!(locate("a:\n  b: 1\n", "/a/b"), (2, 3));
}

#[test]
fn a_list_of_maps_between_brackets_grows() {
    becomes("v:\n- {n: d, e: {}}\n", &[add("/v/-", json!(1))], "v:\n- {n: d, e: {}}\n- 1\n");
    becomes("v:\n- [a]\n", &[add("/v/-", json!(1))], "v:\n- [a]\n- 1\n");
    becomes("v:\n  - {n: d}\n", &[add("/v/-", json!(1))], "v:\n  - {n: d}\n  - 1\n");
}
