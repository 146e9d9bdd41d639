//! What can go wrong before there is anything to measure.

/// Why there is no result, for whoever runs the program.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;
