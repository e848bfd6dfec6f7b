//! File systems over others: the calls that such a layer leaves as they are.
//!
//! Comes in: what lies under a layer, and the names of the calls that it passes on. Goes out: these methods, inside of the
//! layer's `impl Fs for …` or `impl File for …`. What lies under may be an expression that does something first, and that
//! returns an error with `?`. Always holds: a call has the arguments and the answer of the file system below.
//! Tested by the layers (`home.rs`, `input/src/unzip`).

/// Methods of [`Fs`](crate::Fs) that go to another file system: `pass_fs!(this => this.inner; stat rename)`.
#[macro_export]
macro_rules! pass_fs {
    ($this:ident => $under:expr; $($method:ident)+) => { $($crate::pass_fs!(@$method $this $under);)+ };
    (@open $this:ident $under:expr) => { $crate::pass_fs!(@@ $this $under,
        open(path: &std::path::Path, how: $crate::OpenHow) -> Box<dyn $crate::File>); };
    (@stat $this:ident $under:expr) => { $crate::pass_fs!(@@ $this $under,
        stat(path: &std::path::Path, follow: bool) -> $crate::Meta); };
    (@read_dir $this:ident $under:expr) => { $crate::pass_fs!(@@ $this $under,
        read_dir(path: &std::path::Path, each: &mut dyn FnMut($crate::DirEntry<'_>) -> bool) -> ()); };
    (@canonicalize $this:ident $under:expr) => { $crate::pass_fs!(@@ $this $under,
        canonicalize(path: &std::path::Path) -> std::path::PathBuf); };
    (@read_link $this:ident $under:expr) => { $crate::pass_fs!(@@ $this $under,
        read_link(path: &std::path::Path) -> std::path::PathBuf); };
    (@kind $this:ident $under:expr) => { $crate::pass_fs!(@@ $this $under,
        kind(path: &std::path::Path) -> $crate::FsKind); };
    (@rename $this:ident $under:expr) => { $crate::pass_fs!(@@ $this $under,
        rename(from: &std::path::Path, to: &std::path::Path) -> ()); };
    (@rename_new $this:ident $under:expr) => { $crate::pass_fs!(@@ $this $under,
        rename_new(from: &std::path::Path, to: &std::path::Path) -> ()); };
    (@remove $this:ident $under:expr) => { $crate::pass_fs!(@@ $this $under,
        remove(path: &std::path::Path) -> ()); };
    (@remove_dir $this:ident $under:expr) => { $crate::pass_fs!(@@ $this $under,
        remove_dir(path: &std::path::Path) -> ()); };
    (@create_dir_all $this:ident $under:expr) => { $crate::pass_fs!(@@ $this $under,
        create_dir_all(path: &std::path::Path, mode: u32) -> ()); };
    (@sync_dir $this:ident $under:expr) => { $crate::pass_fs!(@@ $this $under,
        sync_dir(path: &std::path::Path) -> ()); };
    (@try_lock $this:ident $under:expr) => { $crate::pass_fs!(@@ $this $under,
        try_lock(path: &std::path::Path) -> Option<Box<dyn $crate::Lock>>); };
    (@@ $this:ident $under:expr, $name:ident($($arg:ident: $of:ty),*) -> $out:ty) => {
        fn $name(&self, $($arg: $of),*) -> std::io::Result<$out> {
            let $this = self;
            ($under).$name($($arg),*)
        }
    };
}

/// Methods of [`File`](crate::File) that go to another file: `pass_file!(this => this.inner; sync set_len)`.
#[macro_export]
macro_rules! pass_file {
    ($this:ident => $under:expr; $($method:ident)+) => { $($crate::pass_file!(@$method $this $under);)+ };
    (@read_at $this:ident $under:expr) => { $crate::pass_fs!(@@ $this $under,
        read_at(buf: &mut [u8], offset: u64) -> usize); };
    (@write_all $this:ident $under:expr) => { $crate::pass_fs!(@@ $this $under, write_all(buf: &[u8]) -> ()); };
    (@stat $this:ident $under:expr) => { $crate::pass_fs!(@@ $this $under, stat() -> $crate::Meta); };
    (@sync $this:ident $under:expr) => { $crate::pass_fs!(@@ $this $under, sync() -> ()); };
    (@set_len $this:ident $under:expr) => { $crate::pass_fs!(@@ $this $under, set_len(len: u64) -> ()); };
}
