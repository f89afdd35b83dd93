//! The end of the process, with vehicles that do not make it easy.
