//! The product of two tensors. Those with the weights of a layer are the kernels' (`matrix`).
//!
//! candle's CPU backend asks for the number of physical cores in every product. On Linux that reads
//! `/proc/cpuinfo`, unless `RAYON_NUM_THREADS` is set, which a library must not do. Here
//! [`threads::of_products`] asks once, and `gemm` is called with candle's arguments, so the bits
//! are those of candle. Source: huggingface/candle 0.11.1, `candle-core/src/cpu_backend/mod.rs`,
//! `MatMul`.
#![allow(clippy::cast_possible_wrap, reason = "strides of slices: below isize::MAX")]
#![allow(unsafe_code, reason = "gemm takes pointers and strides; one call, in `multiply`")]

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CustomOp2, DType, Error, Layout, Result, Shape, Tensor, WithDType, bail, utils,
};
use gemm::Parallelism;
use half::slice::HalfFloatSliceExt;
use half::vec::HalfFloatVecExt;

use crate::threads;

/// Product of `a [..,m,k]` and `b [..,k,n]`, `[..,m,n]`, of one dtype and with equal leading axes.
///
/// On the CPU: f64, f32, f16 and bf16 (multiplied in f32 and rounded once), with any strides, such
/// as those of transposed and broadcast views. On a GPU, and where candle was built with MKL or
/// Accelerate, it is candle's product, with the views that candle takes.
///
/// # Errors
/// If shapes, dtypes or devices do not fit each other.
pub(crate) fn product(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if !a.device().is_cpu() || utils::has_mkl() || utils::has_accelerate() {
        return a.matmul(b);
    }
    a.apply_op2_no_bwd(b, &Product { threads: threads::of_products() })
}

/// [`product`] on the CPU, on this thread: for what is computed within a task.
pub(crate) fn product_alone(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    a.apply_op2_no_bwd(b, &Product { threads: 1 })
}

/// [`product`], except that 16-bit floats on the CPU are widened first and their product is f32.
pub(crate) fn widened_product(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    match (a.device().is_cpu(), a.dtype()) {
        (true, DType::BF16 | DType::F16) => {
            product(&a.to_dtype(DType::F32)?, &b.to_dtype(DType::F32)?)
        }
        _ => product(a, b),
    }
}

struct Product {
    threads: usize,
}

impl CustomOp2 for Product {
    fn name(&self) -> &'static str {
        "product"
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        a_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let factors = Factors::new(a_layout, b_layout, self.threads)?;
        let out = match (a, b) {
            (CpuStorage::F64(a), CpuStorage::F64(b)) => {
                CpuStorage::F64(factors.multiply(factors.a.part(a)?, factors.b.part(b)?))
            }
            (CpuStorage::F32(a), CpuStorage::F32(b)) => {
                CpuStorage::F32(factors.multiply(factors.a.part(a)?, factors.b.part(b)?))
            }
            (CpuStorage::F16(a), CpuStorage::F16(b)) => {
                CpuStorage::F16(factors.multiply(factors.a.part(a)?, factors.b.part(b)?))
            }
            (CpuStorage::BF16(a), CpuStorage::BF16(b)) => {
                let (a, b) = (factors.a.part(a)?, factors.b.part(b)?);
                let wide = factors.multiply(&a.to_f32_vec(), &b.to_f32_vec());
                CpuStorage::BF16(Vec::from_f32_slice(&wide))
            }
            _ => bail!("no product of {:?} and {:?} on the CPU", a.dtype(), b.dtype()),
        };
        Ok((out, factors.shape()))
    }
}

/// `count` matrices `[m,k]` and as many `[k,n]`.
struct Factors<'a> {
    a: Stack<'a>,
    b: Stack<'a>,
    count: usize,
    m: usize,
    n: usize,
    k: usize,
    threads: usize,
}

impl<'a> Factors<'a> {
    fn new(a: &'a Layout, b: &'a Layout, threads: usize) -> Result<Self> {
        if let ([leading @ .., m, k], [b_leading @ .., b_k, n]) = (a.dims(), b.dims())
            && leading == b_leading
            && k == b_k
        {
            let count = leading.iter().product();
            let (m, n, k) = (*m, *n, *k);
            return Ok(Self { a: Stack(a), b: Stack(b), count, m, n, k, threads });
        }
        let (lhs, rhs) = (a.shape().clone(), b.shape().clone());
        Err(Error::ShapeMismatchBinaryOp { lhs, rhs, op: "product" }.bt())
    }

    /// `[..,m,n]`.
    fn shape(&self) -> Shape {
        let mut dims = self.a.0.dims().to_vec();
        if let Some(last) = dims.last_mut() {
            *last = self.n;
        }
        dims.into()
    }

    /// Whether all matrices `b` are the same one and the rows of all matrices `a` are contiguous.
    /// Then the stack is one product with more rows.
    fn are_one(&self) -> bool {
        let rows_follow = |number: usize| self.a.start(number) == number * self.m * self.k;
        self.a.row_stride() == self.k
            && (0..self.count).all(|number| self.b.start(number) == 0 && rows_follow(number))
    }

    /// All products, row by row. `a` and `b` are the parts of the storages in which the factors
    /// lie.
    fn multiply<T: WithDType>(&self, a: &[T], b: &[T]) -> Vec<T> {
        let mut out = vec![T::from_f64(0.); self.count * self.m * self.n];
        if out.is_empty() || self.k == 0 {
            return out;
        }
        let rows = if self.are_one() { self.count * self.m } else { self.m };
        for (number, out) in out.chunks_exact_mut(rows * self.n).enumerate() {
            let (a, b) = (&a[self.a.start(number)..], &b[self.b.start(number)..]);
            let a = (a, self.a.row_stride(), self.a.column_stride());
            let b = (b, self.b.row_stride(), self.b.column_stride());
            multiply((rows, self.n, self.k), a, b, out, self.threads);
        }
        out
    }
}

/// Numbers of a matrix, and the strides of its rows and columns.
type Strided<'a, T> = (&'a [T], usize, usize);

/// Writes the product of `a [m,k]` and `b [k,n]` to `out [m,n]`.
fn multiply<T: WithDType>(
    (m, n, k): (usize, usize, usize),
    a: Strided<T>,
    b: Strided<T>,
    out: &mut [T],
    threads: usize,
) {
    let parallelism = match threads {
        1 => Parallelism::None,
        count => Parallelism::Rayon(count),
    };
    let reaches = |rows: usize, columns: usize, (numbers, by_row, by_column): Strided<T>| {
        (rows - 1) * by_row + (columns - 1) * by_column < numbers.len()
    };
    assert!(m > 0 && n > 0 && k > 0 && reaches(m, k, a) && reaches(k, n, b));
    assert!(out.len() == m * n);
    // SAFETY: the last element of each matrix lies within its slice, as was just asserted; strides are
    // not negative, so all other elements do too, and no two of `out` are one. `T` is a type of
    // `gemm`: callers have no others.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            false, // what `out` holds is not read
            a.0.as_ptr(),
            a.2 as isize,
            a.1 as isize,
            b.0.as_ptr(),
            b.2 as isize,
            b.1 as isize,
            T::from_f64(0.), // times `out`
            T::from_f64(1.), // times the product
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// The matrices of one factor, numbered over the leading axes, the last axis fastest.
struct Stack<'a>(&'a Layout);

impl Stack<'_> {
    fn row_stride(&self) -> usize {
        self.0.stride()[self.0.dims().len() - 2]
    }

    fn column_stride(&self) -> usize {
        self.0.stride()[self.0.dims().len() - 1]
    }

    /// Offset of matrix `number` from the first.
    fn start(&self, mut number: usize) -> usize {
        let leading = self.0.dims().len() - 2;
        let axes = self.0.dims()[..leading].iter().zip(self.0.stride()).rev();
        let mut start = 0;
        for (size, stride) in axes {
            start += number % size * stride;
            number /= size;
        }
        start
    }

    /// The elements from the first of the first matrix to the last of the last.
    fn part<'n, T>(&self, numbers: &'n [T]) -> Result<&'n [T]> {
        if self.0.shape().elem_count() == 0 {
            return Ok(&[]);
        }
        let axes = self.0.dims().iter().zip(self.0.stride());
        let last: usize = axes.map(|(size, stride)| (size - 1) * stride).sum();
        match numbers.get(self.0.start_offset()..=self.0.start_offset() + last) {
            Some(part) => Ok(part),
            None => bail!("{:?} reaches beyond {} numbers", self.0, numbers.len()),
        }
    }
}

#[cfg(test)]
mod tests;
