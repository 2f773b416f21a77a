# -DMETRO_SANITIZE=address,undefined instruments every target that links this.
add_library(metro_sanitizers INTERFACE)
if(METRO_SANITIZE)
  target_compile_options(metro_sanitizers INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${METRO_SANITIZE};-fno-sanitize-recover=all;-fno-omit-frame-pointer>)
  target_link_options(metro_sanitizers INTERFACE -fsanitize=${METRO_SANITIZE})
endif()
