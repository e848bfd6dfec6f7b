//! Any text as manifests: injected or refused, never a panic; the second time nothing changes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pillion_kube::inject::Options;
use pillion_kube::manifest::inject;

fuzz_target!(|text: &str| {
    let options = Options::default();
    if let Ok(once) = inject(text, &options) {
        let twice = inject(&once.text, &options).map(|twice| twice.text);
        assert_eq!(twice, Ok(once.text));
    }
});
