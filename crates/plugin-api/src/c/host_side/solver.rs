//! A solver of a library in C.

use std::ffi::c_void;

use super::handles::Lent;
use super::object::{Destroy, Object};
use super::ops::OPS;
use super::under_way::UnderWay;
use crate::c::convert::{no_error, outcome};
use crate::c::tables::Solver;
use crate::library::AnySolver;
use crate::{Message, Result, Tensor, TensorOps};

pub(super) struct CSolver {
    object: Object,
    table: &'static Solver,
}

impl CSolver {
    pub(super) fn new(id: &str, table: &'static Solver, object: (*mut c_void, Destroy)) -> Self {
        Self { object: Object::new(id, object), table }
    }
}

impl AnySolver for CSolver {
    fn evaluations(&self, index: usize) -> u32 {
        // SAFETY: it is the object's own function.
        self.table.evaluations.map_or(1, |f| unsafe { f(self.object.object, index as u64) })
    }

    fn level(&self, index: usize, evaluation: u32) -> Result<Option<(f64, f64)>> {
        let Some(function) = self.table.level else { return Ok(None) };
        let (mut timestep, mut sigma, mut error) = (f64::NAN, f64::NAN, no_error());
        // SAFETY: everything lives until it returns.
        let said = unsafe {
            let object = self.object.object;
            let (timestep, sigma) = (&raw mut timestep, &raw mut sigma);
            function(object, index as u64, evaluation, timestep, sigma, &raw mut error)
        };
        outcome(said, &error)?;
        Ok(Some((timestep, sigma)))
    }

    fn step(
        &mut self,
        (index, evaluation): (usize, u32),
        sample: &Tensor,
        velocity: &Tensor,
        ops: &dyn TensorOps,
    ) -> Result<Tensor> {
        let Some(function) = self.table.step else { unreachable!() };
        let (sample, velocity) = (Lent::new(sample), Lent::new(velocity));
        let (mut out, mut error) = (std::ptr::null_mut(), no_error());
        let under_way = UnderWay::new(ops, None);
        // SAFETY: everything lives until it returns.
        let stepped = unsafe {
            let (object, sample, velocity) = (self.object.object, sample.get(), velocity.get());
            let (out, error) = (&raw mut out, &raw mut error);
            function(object, index as u64, evaluation, sample, velocity, &raw const OPS, out, error)
        };
        drop(under_way);
        outcome(stepped, &error)?;
        self.object.given("step", out)
    }

    fn extension(&mut self, id: &str, message: Message, ops: &dyn TensorOps) -> Result<Message> {
        self.object.extension(self.table.extension, (id, &message), ops)
    }
}
