//! Criterion benches; see the `benches` folder of this package.
