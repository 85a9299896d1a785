//! User stories on a real API server: see `tests/`.
