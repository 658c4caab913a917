//! One ranged GET over HTTP/1.1 whose body is received straight into its slot.
