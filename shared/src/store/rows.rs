//! Between the domain types and rows.
