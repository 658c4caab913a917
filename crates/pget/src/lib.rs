//! One big object out of object storage, fast: in order or straight into its destination.
