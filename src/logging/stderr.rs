//! The process' stderr as a file of our own.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

/// A second descriptor of stderr, and whether it leads to `/dev/null`, where nobody can read what is written. That is
/// also where it leads when it was closed at the start: the standard library then opens `/dev/null` in its place.
///
/// A descriptor of our own, because the standard library's handle has a lock, which a panic would wait for, and takes
/// a closed descriptor for success.
///
/// # Errors
/// When the system gives no more descriptors.
pub(super) fn open() -> io::Result<(File, bool)> {
    let file = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let leads_nowhere = is_null(&file).unwrap_or(false);
    Ok((file, leads_nowhere))
}

fn is_null(file: &File) -> io::Result<bool> {
    let (this, null) = (file.metadata()?, std::fs::metadata("/dev/null")?);
    Ok(this.file_type().is_char_device() && this.rdev() == null.rdev())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_where_nobody_can_read() {
        let null = File::options().write(true).open("/dev/null").unwrap();
        assert!(is_null(&null).unwrap());
        assert!(!is_null(&File::open("/dev/zero").unwrap()).unwrap());
        assert!(!is_null(&tempfile::tempfile().unwrap()).unwrap());
    }
}
