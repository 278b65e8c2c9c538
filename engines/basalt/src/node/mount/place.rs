//! Whether a directory can be mounted on: what a crash left there is taken away, everything else is refused.
//!
//! Called before anything is mounted. A dead mount cannot be looked into, so it goes first.

use super::failed;
use crate::error::Error;
use fuse_lowlevel::mount::clean_stale;
use std::path::{Path, PathBuf};

/// What mountinfo shows our mounts as: `fuse.basalt`.
pub(super) const SUBTYPE: &str = "basalt";

/// Makes sure that each of `directories` is an empty one of its own, neither in a data directory nor around one.
pub(super) fn prepare(directories: &[&Path], data: &[&Path]) -> Result<(), Error> {
    let mut taken = data.iter().map(|data| (*data, "data directory")).collect::<Vec<_>>();
    for directory in directories {
        prepare_one(directory, &taken)?;
        taken.push((directory, "other mount"));
    }
    Ok(())
}

fn prepare_one(directory: &Path, taken: &[(&Path, &str)]) -> Result<(), Error> {
    let refused = |why: &dyn std::fmt::Display| failed(directory, why);
    match clean_stale(directory, SUBTYPE) {
        Ok(stale) if stale.removed > 0 => {
            tracing::warn!(directory = %directory.display(), "took away the mount that a crash had left");
        }
        Ok(_) => {}
        Err(error) => return Err(refused(&error)),
    }
    let entries = std::fs::read_dir(directory).map_err(|e| {
        let error = refused(&e);
        if e.kind() == std::io::ErrorKind::NotFound { error.fix("make the directory first") } else { error }
    })?;
    if entries.count() > 0 {
        return Err(refused(&"it is not empty: its files would be hidden").fix("name an empty directory"));
    }
    let place = std::fs::canonicalize(directory).map_err(|e| refused(&e))?;
    for (other, what) in taken {
        let other = std::fs::canonicalize(other).unwrap_or_else(|_| PathBuf::from(other));
        if place.starts_with(&other) || other.starts_with(&place) {
            let why = format!("the {what} {} is in the way", other.display());
            return Err(refused(&why).fix("mount elsewhere"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_empty_directory_away_from_the_data_will_do() {
        let root = tempfile::tempdir().expect("temp dir");
        let at = |name: &str| root.path().join(name);
        std::fs::create_dir_all(at("empty")).expect("made");
        std::fs::create_dir_all(at("data/inside")).expect("made");
        std::fs::create_dir_all(at("full/x")).expect("made");
        std::fs::write(at("file"), b"x").expect("written");
        let data = at("data");
        let prepare = |names: &[&str]| {
            let places: Vec<PathBuf> = names.iter().map(|name| at(name)).collect();
            let places: Vec<&Path> = places.iter().map(PathBuf::as_path).collect();
            prepare(&places, &[&data]).map_err(|e| e.to_string())
        };
        prepare(&["empty"]).expect("will do");
        assert!(prepare(&["empty", "empty"]).unwrap_err().contains("other mount"));
        assert!(prepare(&["missing"]).unwrap_err().contains("make the directory"));
        assert!(prepare(&["full"]).unwrap_err().contains("not empty"));
        assert!(prepare(&["data/inside"]).unwrap_err().contains("in the way"));
        assert!(prepare(&["file"]).is_err());
    }
}
