# The warnings our own code is built with; consumers of the installed package never see them.
add_library(metro_warnings INTERFACE)
option(METRO_WERROR "Treat warnings as errors" OFF)
set(metro_cxx_warnings -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion
  -Wnon-virtual-dtor -Wold-style-cast -Woverloaded-virtual)
# gcc 12 sees overlaps in every optimised std::string sum (its bug 105329).
# clang blames us for what std::stable_sort of libstdc++ 12 uses inside; gcc finds our own uses.
target_compile_options(metro_warnings INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:${metro_cxx_warnings}>
  $<$<COMPILE_LANG_AND_ID:CXX,Clang>:-Wno-deprecated-declarations>
  $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-restrict>
  $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<BOOL:${METRO_WERROR}>>:-Werror>
  $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra>
  $<$<AND:$<COMPILE_LANGUAGE:CUDA>,$<BOOL:${METRO_WERROR}>>:-Werror=all-warnings>)
