//! The delivery to a reader: chunks keep their pages until [`Reader`](super::Reader) has taken
//! them.

use crate::engine::delivery::{Delivery, Order};

/// Bytes go to a reader, in order.
#[derive(Debug)]
pub(crate) struct InOrder;

impl Delivery for InOrder {
    fn order(&self) -> Order {
        Order::InOrder
    }
}
