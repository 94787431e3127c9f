/* One kernel: the functions of the network for the instructions that KERNEL, TARGET, FUSED, LARGER and SMALLER name. */
#include "vectors.h"
#include "products.h"
#include "mels.h"
#include "layers.h"
#undef KERNEL
#undef TARGET
#undef FUSED
#undef LARGER
#undef SMALLER
