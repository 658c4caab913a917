/* Includes the header, twice and before anything else, and uses a constant and a function of it. */
#include "pget.h"
#include "pget.h"

int main(void) {
  return pget_abi_version() == PGET_ABI_VERSION && PGET_OK == 0 && PGET_ERR_INTERNAL == -99 ? 0 : 1;
}
