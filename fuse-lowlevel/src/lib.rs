//! fuse-lowlevel
