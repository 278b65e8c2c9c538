//! blobcache
