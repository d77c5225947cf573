// try_out.cu: writes one number, to find out whether a GPU can be used at all.
//
// Arrays  answer (1,) uint32.
// Launch  one thread.
// Range   any number.
// Cost    4 bytes.
// Residency  at least 1 block per SM.
extern "C" __global__ void try_out(unsigned* answer, unsigned number) { *answer = number; }
