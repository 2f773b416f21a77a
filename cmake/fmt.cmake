# metro_fmt: fmt's headers, with its formatter compiled once (src/core/fmt_once.cpp) instead of in each
# file that formats, which took most of a build. Its namespace is our own, so that a program may link
# another fmt beside the installed library. Versions that this was not tried with stay header-only.
find_package(fmt 9 REQUIRED)
add_library(metro_fmt INTERFACE)
if(fmt_VERSION VERSION_LESS 10)
  get_target_property(metro_fmt_includes fmt::fmt-header-only INTERFACE_INCLUDE_DIRECTORIES)
  target_include_directories(metro_fmt SYSTEM INTERFACE ${metro_fmt_includes})
  target_compile_definitions(metro_fmt INTERFACE
    "FMT_BEGIN_NAMESPACE=namespace fmt { inline namespace metro_once {" "FMT_END_NAMESPACE=}}")
else()
  target_link_libraries(metro_fmt INTERFACE fmt::fmt-header-only)
endif()
