# metro_embed(FUNCTION FILE HEADER): the file's bytes as the string_view FUNCTION() that HEADER
# declares, in metro::report::page_css's manner; empty where FILE is. In hex, so that no byte of it
# needs quoting. Adds the source to `metro`; configures again when the file changes.
function(metro_embed function file header)
  set(bytes "")
  if(file)
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
    file(READ ${file} hex HEX)
    string(REGEX REPLACE "(..)" "'\\\\x\\1'," bytes "${hex}")
  endif()
  string(REGEX REPLACE ".*::" "" name ${function})
  set(source ${CMAKE_CURRENT_BINARY_DIR}/${name}.cpp)
  file(CONFIGURE OUTPUT ${source} @ONLY CONTENT [[
#include "@header@"
namespace {
constexpr char kBytes[] = {@bytes@ '\0'};
}
std::string_view @function@() { return {kBytes, sizeof(kBytes) - 1}; }
]])
  target_sources(metro PRIVATE ${source})
  # Generated: nothing in it for clang-tidy to say.
  set_source_files_properties(${source} PROPERTIES SKIP_LINTING ON)
endfunction()
