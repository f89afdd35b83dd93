//! Silent and slow clients of the plain ports.
