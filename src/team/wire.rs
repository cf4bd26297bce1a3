//! Values as bytes between the ranks of a team, all of them on machines of one kind.

use std::io::{Error, ErrorKind, Read, Result, Write};

use candle_core::{CpuStorage, DType, Device, Storage, Tensor};

use super::Team;

/// Bytes of a message at most: far below the 2³¹ that MPI counts to, and enough to fill a line.
const MESSAGE_BYTES: usize = 1 << 22;

/// What can go to another rank. What is read back has the same bits.
pub trait Wire: Sized {
    /// Writes the value.
    ///
    /// # Errors
    /// A message that cannot be sent.
    fn put(&self, to: &mut dyn Write) -> Result<()>;

    /// Reads the next value.
    ///
    /// # Errors
    /// A message that does not arrive, or holds something else.
    fn get(from: &mut dyn Read) -> Result<Self>;
}

impl Wire for u64 {
    fn put(&self, to: &mut dyn Write) -> Result<()> {
        to.write_all(&self.to_ne_bytes())
    }

    fn get(from: &mut dyn Read) -> Result<Self> {
        let mut bytes = [0; 8];
        from.read_exact(&mut bytes)?;
        Ok(Self::from_ne_bytes(bytes))
    }
}

impl Wire for usize {
    fn put(&self, to: &mut dyn Write) -> Result<()> {
        (*self as u64).put(to)
    }

    fn get(from: &mut dyn Read) -> Result<Self> {
        Self::try_from(u64::get(from)?).map_err(|_| unexpected())
    }
}

impl Wire for u32 {
    fn put(&self, to: &mut dyn Write) -> Result<()> {
        u64::from(*self).put(to)
    }

    fn get(from: &mut dyn Read) -> Result<Self> {
        Self::try_from(u64::get(from)?).map_err(|_| unexpected())
    }
}

impl Wire for f64 {
    fn put(&self, to: &mut dyn Write) -> Result<()> {
        self.to_bits().put(to)
    }

    fn get(from: &mut dyn Read) -> Result<Self> {
        Ok(Self::from_bits(u64::get(from)?))
    }
}

impl Wire for bool {
    fn put(&self, to: &mut dyn Write) -> Result<()> {
        u64::from(*self).put(to)
    }

    fn get(from: &mut dyn Read) -> Result<Self> {
        match u64::get(from)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(unexpected()),
        }
    }
}

impl Wire for String {
    fn put(&self, to: &mut dyn Write) -> Result<()> {
        self.len().put(to)?;
        to.write_all(self.as_bytes())
    }

    fn get(from: &mut dyn Read) -> Result<Self> {
        let mut bytes = vec![0; usize::get(from)?];
        from.read_exact(&mut bytes)?;
        Self::from_utf8(bytes).map_err(|_| unexpected())
    }
}

impl Wire for () {
    fn put(&self, _: &mut dyn Write) -> Result<()> {
        Ok(())
    }

    fn get(_: &mut dyn Read) -> Result<Self> {
        Ok(())
    }
}

impl<T: Wire> Wire for Option<T> {
    fn put(&self, to: &mut dyn Write) -> Result<()> {
        self.is_some().put(to)?;
        self.iter().try_for_each(|value| value.put(to))
    }

    fn get(from: &mut dyn Read) -> Result<Self> {
        bool::get(from)?.then(|| T::get(from)).transpose()
    }
}

impl<T: Wire, E: Wire> Wire for std::result::Result<T, E> {
    fn put(&self, to: &mut dyn Write) -> Result<()> {
        self.is_ok().put(to)?;
        match self {
            Ok(value) => value.put(to),
            Err(error) => error.put(to),
        }
    }

    fn get(from: &mut dyn Read) -> Result<Self> {
        Ok(if bool::get(from)? { Ok(T::get(from)?) } else { Err(E::get(from)?) })
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn put(&self, to: &mut dyn Write) -> Result<()> {
        self.len().put(to)?;
        self.iter().try_for_each(|value| value.put(to))
    }

    fn get(from: &mut dyn Read) -> Result<Self> {
        (0..usize::get(from)?).map(|_| T::get(from)).collect()
    }
}

impl<A: Wire, B: Wire> Wire for (A, B) {
    fn put(&self, to: &mut dyn Write) -> Result<()> {
        self.0.put(to)?;
        self.1.put(to)
    }

    fn get(from: &mut dyn Read) -> Result<Self> {
        Ok((A::get(from)?, B::get(from)?))
    }
}

impl<A: Wire, B: Wire, C: Wire> Wire for (A, B, C) {
    fn put(&self, to: &mut dyn Write) -> Result<()> {
        self.0.put(to)?;
        self.1.put(to)?;
        self.2.put(to)
    }

    fn get(from: &mut dyn Read) -> Result<Self> {
        Ok((A::get(from)?, B::get(from)?, C::get(from)?))
    }
}

impl Wire for DType {
    fn put(&self, to: &mut dyn Write) -> Result<()> {
        self.as_str().to_owned().put(to)
    }

    fn get(from: &mut dyn Read) -> Result<Self> {
        String::get(from)?.parse().map_err(|_| unexpected())
    }
}

/// What is read is on the host.
impl Wire for Tensor {
    fn put(&self, mut to: &mut dyn Write) -> Result<()> {
        (self.dtype(), self.dims().to_vec()).put(to)?;
        let own = self.to_device(&Device::Cpu).and_then(|own| own.contiguous()).map_err(Error::other)?;
        let (storage, layout) = own.storage_and_layout();
        match (&*storage, layout.contiguous_offsets()) {
            (Storage::Cpu(CpuStorage::F32(all)), Some((start, end))) => {
                put_each(&all[start..end], to, f32::to_ne_bytes)
            }
            (Storage::Cpu(CpuStorage::F64(all)), Some((start, end))) => put_numbers(&all[start..end], to),
            _ => own.write_bytes(&mut to).map_err(Error::other),
        }
    }

    fn get(from: &mut dyn Read) -> Result<Self> {
        let (dtype, dims): (DType, Vec<usize>) = Wire::get(from)?;
        let count = dims.iter().product();
        let tensor = match dtype {
            DType::F32 => Tensor::from_vec(get_each(count, from, f32::from_ne_bytes)?, dims, &Device::Cpu),
            DType::F64 => Tensor::from_vec(get_numbers(count, from)?, dims, &Device::Cpu),
            _ => {
                let mut bytes = vec![0; count * dtype.size_in_bytes()];
                from.read_exact(&mut bytes)?;
                Tensor::from_raw_buffer(&bytes, dtype, &dims, &Device::Cpu)
            }
        };
        tensor.map_err(Error::other)
    }
}

/// Numbers of a known count, of which there may be many.
pub(crate) fn put_numbers(numbers: &[f64], to: &mut dyn Write) -> Result<()> {
    put_each(numbers, to, f64::to_ne_bytes)
}

/// The counterpart of [`put_numbers`].
pub(crate) fn get_numbers(count: usize, from: &mut dyn Read) -> Result<Vec<f64>> {
    get_each(count, from, f64::from_ne_bytes)
}

/// Numbers of `W` bytes each, without a second copy of them all.
fn put_each<T: Copy, const W: usize>(numbers: &[T], to: &mut dyn Write, bytes_of: fn(T) -> [u8; W]) -> Result<()> {
    let mut bytes = vec![0; W * BLOCK.min(numbers.len())];
    for block in numbers.chunks(BLOCK) {
        let bytes = &mut bytes[..W * block.len()];
        bytes.as_chunks_mut().0.iter_mut().zip(block).for_each(|(bytes, number)| *bytes = bytes_of(*number));
        to.write_all(bytes)?;
    }
    Ok(())
}

/// The counterpart of [`put_each`].
fn get_each<T, const W: usize>(count: usize, from: &mut dyn Read, number: fn([u8; W]) -> T) -> Result<Vec<T>> {
    let mut numbers = Vec::with_capacity(count);
    let mut bytes = vec![0; W * BLOCK.min(count)];
    while numbers.len() < count {
        let block = &mut bytes[..W * BLOCK.min(count - numbers.len())];
        from.read_exact(block)?;
        numbers.extend(block.as_chunks().0.iter().map(|bytes| number(*bytes)));
    }
    Ok(numbers)
}

const BLOCK: usize = 4096;

fn unexpected() -> Error {
    Error::new(ErrorKind::InvalidData, "a message holds something else than was expected")
}

/// Sends what `put` writes to each of `to`.
pub(super) fn send(team: &dyn Team, to: &[usize], put: impl FnOnce(&mut dyn Write) -> Result<()>) -> crate::Result<()> {
    let mut outgoing = Outgoing { team, to, message: Vec::new() };
    put(&mut outgoing).and_then(|()| outgoing.flush()).map_err(said)
}

/// Receives a value of `from`, and hands its messages on to each of `to` as they come.
pub(super) fn receive<T: Wire>(team: &dyn Team, from: usize, to: &[usize]) -> crate::Result<T> {
    let mut incoming = Incoming { team, from, to, message: Vec::new(), at: 0 };
    let value = T::get(&mut incoming).map_err(said)?;
    if incoming.at < incoming.message.len() { Err(said(unexpected())) } else { Ok(value) }
}

/// The error of a team that went through a stream.
fn said(error: Error) -> crate::Error {
    let reason = error.to_string();
    let own = error.into_inner().and_then(|inner| inner.downcast::<crate::Error>().ok());
    own.map_or_else(|| super::TeamError::Message { reason }.into(), |own| *own)
}

/// Cuts what is written into messages.
struct Outgoing<'a> {
    team: &'a dyn Team,
    to: &'a [usize],
    message: Vec<u8>,
}

impl Write for Outgoing<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        let taken = bytes.len().min(MESSAGE_BYTES - self.message.len());
        self.message.extend_from_slice(&bytes[..taken]);
        if self.message.len() == MESSAGE_BYTES {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> Result<()> {
        if !self.message.is_empty() {
            hand_on(self.team, self.to, &mut self.message)?;
            self.message.clear();
        }
        Ok(())
    }
}

fn hand_on(team: &dyn Team, to: &[usize], message: &mut Vec<u8>) -> Result<()> {
    to.iter().try_for_each(|rank| {
        *message = team.send(*rank, std::mem::take(message)).map_err(Error::other)?;
        Ok(())
    })
}

struct Incoming<'a> {
    team: &'a dyn Team,
    from: usize,
    to: &'a [usize],
    message: Vec<u8>,
    at: usize,
}

impl Read for Incoming<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize> {
        if self.at == self.message.len() && !bytes.is_empty() {
            self.message = self.team.receive(self.from, std::mem::take(&mut self.message)).map_err(Error::other)?;
            self.at = 0;
            hand_on(self.team, self.to, &mut self.message)?;
        }
        let taken = bytes.len().min(self.message.len() - self.at);
        bytes[..taken].copy_from_slice(&self.message[self.at..self.at + taken]);
        self.at += taken;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_back_has_the_same_bits() {
        let value = (vec![Some(-0.0), None, Some(f64::NAN)], (String::from("λ₁"), 7usize));
        let mut bytes = Vec::new();
        value.put(&mut bytes).unwrap();
        type Value = (Vec<Option<f64>>, (String, usize));
        let read = Value::get(&mut bytes.as_slice()).unwrap();
        assert_eq!(format!("{read:?}"), format!("{value:?}"));
        assert!(Value::get(&mut &bytes[..20]).is_err() && bool::get(&mut [7; 8].as_slice()).is_err());
        for dtype in [DType::F32, DType::F64, DType::U32] {
            let tensor = Tensor::arange(0f64, 10.0, &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
            let (tensor, mut bytes) = (tensor.reshape((2, 5)).unwrap().narrow(1, 1, 3).unwrap(), Vec::new());
            tensor.put(&mut bytes).unwrap();
            let read = <Tensor as Wire>::get(&mut bytes.as_slice()).unwrap();
            assert_eq!(format!("{read:?} {read}"), format!("{:?} {tensor}", tensor.contiguous().unwrap()));
        }
        let numbers: Vec<f64> = (0..BLOCK + 5).map(|index| index as f64 / 3.0).collect();
        let mut bytes = Vec::new();
        put_numbers(&numbers, &mut bytes).unwrap();
        assert_eq!(get_numbers(numbers.len(), &mut bytes.as_slice()).unwrap(), numbers);
    }
}
