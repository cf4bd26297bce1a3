//! Numbers for people: aligned text of at most 80 columns.
