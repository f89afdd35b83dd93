//! Certificates that come late, expire, or are renewed while the server runs.
