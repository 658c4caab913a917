// Includes the C++ header twice, before anything else.
#include "pget.hpp"
#include "pget.hpp"

int main() { return pget::version().empty() ? 1 : 0; }
