// try_out.cu: writes one number. Whether a GPU can be used at all is found out with it.
//
// Arrays  answer (1,) uint32.
// Launch  one thread.
extern "C" __global__ void try_out(unsigned* answer, unsigned number) { *answer = number; }
