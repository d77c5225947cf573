// empty.cu: nothing. How long a launch takes that does nothing is the least that any launch takes.
extern "C" __global__ void empty() {}
