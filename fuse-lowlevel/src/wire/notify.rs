//! Notifications: sent by the daemon, unasked, with `unique` 0 and the code in `error`.

pub const POLL: i32 = 1;
pub const INVAL_INODE: i32 = 2;
pub const INVAL_ENTRY: i32 = 3;
pub const STORE: i32 = 4;
pub const RETRIEVE: i32 = 5;
pub const DELETE: i32 = 6;
pub const RESEND: i32 = 7;
pub const INC_EPOCH: i32 = 8;
pub const PRUNE: i32 = 9;

wire!(NotifyPollWakeupOut: 8 { kh: u64 });
wire!(NotifyInvalInodeOut: 24 { ino: u64, off: i64, len: i64 });
wire!(
    /// The name and a NUL follow; `namelen` is without it.
    NotifyInvalEntryOut: 16 { parent: u64, namelen: u32, flags: u32 }
);
wire!(NotifyDeleteOut: 24 { parent: u64, child: u64, namelen: u32, padding: u32 });
wire!(
    /// `size` bytes of data follow.
    NotifyStoreOut: 24 { nodeid: u64, offset: u64, size: u32, padding: u32 }
);
wire!(NotifyRetrieveOut: 32 { notify_unique: u64, nodeid: u64, offset: u64, size: u32, padding: u32 });
wire!(
    /// `count` node ids follow.
    NotifyPruneOut: 16 { count: u32, padding: u32, spare: u64 }
);
