//! A panic ends the whole program, also where the executable isn't built to abort.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;

use crate::harness::wait_for;

const INSIDE: &str = "PILLION_TEST_PANICS";

/// The test starts itself once more: there a thread panics while the main thread waits for ever.
#[test]
fn a_panic_of_a_thread_ends_the_program() {
    if std::env::var_os(INSIDE).is_some() {
        pillion::end_on_panic();
        std::thread::spawn(|| panic!("one thread of several"));
        loop {
            std::thread::park();
        }
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "panics::a_panic_of_a_thread_ends_the_program", "--nocapture"]).env(INSIDE, "1");
    let mut child = command.stderr(std::process::Stdio::piped()).stdout(std::process::Stdio::null()).spawn().unwrap();
    let status = wait_for("the end", || child.try_wait().unwrap());
    let said = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
    assert_eq!(status.signal(), Some(6), "{said}");
    assert!(said.contains("one thread of several"), "{said}");
}
