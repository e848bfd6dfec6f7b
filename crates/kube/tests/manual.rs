//! The manual says what the code does.

use std::path::Path;

use pillion_kube::inject::SETTINGS;
use pillion_world::World;

#[test]
fn the_manual_s_table_is_the_code_s() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/kubernetes.md");
    let manual = String::from_utf8(World::real().fs.read(&path, 1 << 20).unwrap()).unwrap();
    let mut table = String::from("| setting | annotation | default | meaning |\n|---|---|---|---|\n");
    for setting in SETTINGS {
        let annotation = if setting.annotation { "yes" } else { "" };
        table.push_str(&format!("| `{}` | {annotation} | {} | {} |\n", setting.name, setting.default, setting.meaning));
    }
    assert!(manual.contains(&format!("{table}\n")), "docs/kubernetes.md should have this table:\n{table}");
}
