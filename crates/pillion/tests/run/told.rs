//! A signal in the very moment in which Pillion begins to listen to it: the kernel knows of the handler, and the handler
//! doesn't know yet whom to tell. Made certain by following Pillion's system calls.

use std::os::unix::process::CommandExt as _;

use rustix::process::{Pid, Signal, WaitOptions, waitpid};

use crate::harness::{Job, Running, dead_port};

#[test]
fn what_comes_as_soon_as_it_is_listened_to_is_heard() {
    for signal in [Signal::INT, Signal::TERM] {
        let job = Job::new(dead_port());
        let mut command = job.command::<&str>(&[]);
        traced(&mut command);
        let mut run = Running::start(&mut command, &job.path(""));
        let pid = Pid::from_raw(run.id() as i32).unwrap();
        follow_until_listening(pid, signal);
        run.signal(signal);
        // It is delivered with the next instruction.
        ptrace(libc::PTRACE_DETACH, pid, 0, 0);
        run.ends_with(0);
        assert_eq!(job.receipt()["final"], true, "{signal:?}");
    }
}

#[expect(unsafe_code, reason = "only code between fork and exec can ask for it")]
fn traced(command: &mut std::process::Command) {
    // SAFETY: the closure makes one system call; it neither allocates nor takes a lock.
    unsafe {
        command.pre_exec(|| match libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
}

/// Lets it run until the call has ended by which it gives the signal a handler.
fn follow_until_listening(pid: Pid, signal: Signal) {
    stopped(pid);
    ptrace(libc::PTRACE_SETOPTIONS, pid, 0, libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_EXITKILL);
    let mut is_it = false;
    loop {
        ptrace(libc::PTRACE_SYSCALL, pid, 0, 0);
        assert_eq!(stopped(pid), libc::SIGTRAP | 0x80, "stopped by something else than a system call");
        match entered(pid) {
            Some((call, args)) => {
                is_it = call == libc::SYS_rt_sigaction as u64 && args[0] == signal.as_raw() as u64 && args[1] != 0;
            }
            None if is_it => return,
            None => {}
        }
    }
}

fn stopped(pid: Pid) -> i32 {
    let (_, status) = waitpid(Some(pid), WaitOptions::UNTRACED).unwrap().unwrap();
    status.stopping_signal().unwrap()
}

/// The system call before which it stands, and its arguments; `None` after one.
#[expect(unsafe_code, reason = "the kernel writes the answer")]
fn entered(pid: Pid) -> Option<(u64, [u64; 6])> {
    // SAFETY: plain numbers, for which zero is valid.
    let mut info: libc::ptrace_syscall_info = unsafe { std::mem::zeroed() };
    let size = size_of::<libc::ptrace_syscall_info>();
    // SAFETY: `info` is writable, and so large as is said.
    let got = unsafe { libc::ptrace(libc::PTRACE_GET_SYSCALL_INFO, pid.as_raw_pid(), size, &mut info) };
    assert!(got > 0, "{}", std::io::Error::last_os_error());
    if info.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
        return None;
    }
    // SAFETY: this is the member that this kind of stop has.
    Some(unsafe { (info.u.entry.nr, info.u.entry.args) })
}

#[expect(unsafe_code, reason = "there is no safe wrapper")]
fn ptrace(request: libc::c_uint, pid: Pid, address: usize, data: i32) {
    // SAFETY: none of these requests reads or writes this process' memory.
    let got = unsafe { libc::ptrace(request, pid.as_raw_pid(), address, data as usize) };
    assert_eq!(got, 0, "{}", std::io::Error::last_os_error());
}
