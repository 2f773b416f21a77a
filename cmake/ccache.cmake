# Compiles through ccache where it is installed; name another launcher to override.
find_program(METRO_CCACHE ccache)
mark_as_advanced(METRO_CCACHE)
foreach(lang CXX CUDA)
  if(METRO_CCACHE AND NOT CMAKE_${lang}_COMPILER_LAUNCHER)
    set(CMAKE_${lang}_COMPILER_LAUNCHER ${METRO_CCACHE})
  endif()
endforeach()
