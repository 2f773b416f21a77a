# `cmake --install`, and the package that find_package(metro [COMPONENTS ep cuda]) finds.
include(CMakePackageConfigHelpers)

set(metro_config_dir ${CMAKE_INSTALL_LIBDIR}/cmake/metro)

# metro_install(EXPORT TARGET...): libraries with their headers, and the file that imports them.
function(metro_install export)
  install(TARGETS ${ARGN} EXPORT ${export}
    LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
    ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
    FILE_SET HEADERS DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
  # They find each other beside themselves.
  set_target_properties(${ARGN} PROPERTIES INSTALL_RPATH "$ORIGIN" INSTALL_RPATH_USE_LINK_PATH ON)
  install(EXPORT ${export} NAMESPACE metro:: DESTINATION ${metro_config_dir})
endfunction()

metro_install(metroTargets metro)
# Files of their own, so that users of the core alone need no oneDNN, no MPI and no CUDA toolkit.
if(TARGET metro_ep)
  metro_install(metroEpTargets metro_ep)
  get_target_property(METRO_EP_NEEDS metro_ep METRO_NEEDS)
endif()
if(TARGET metro_cuda_nccl)
  metro_install(metroCudaTargets metro_cuda metro_cuda_nccl)
elseif(TARGET metro_cuda)
  metro_install(metroCudaTargets metro_cuda)
endif()

if(TARGET metro_cli)
  set_target_properties(metro_cli PROPERTIES
    INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR}"
    INSTALL_RPATH_USE_LINK_PATH ON)
  install(TARGETS metro_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  install(DIRECTORY ${PROJECT_BINARY_DIR}/apps/metro/share/ DESTINATION ${CMAKE_INSTALL_DATADIR})
endif()
install(DIRECTORY ${PROJECT_SOURCE_DIR}/data/calibration DESTINATION ${CMAKE_INSTALL_DATADIR}/metro OPTIONAL)
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})

configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/metroConfig.cmake.in
  ${PROJECT_BINARY_DIR}/metroConfig.cmake INSTALL_DESTINATION ${metro_config_dir})
# Until 1.0 a minor version may break callers.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/metroConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/metroConfig.cmake ${PROJECT_BINARY_DIR}/metroConfigVersion.cmake
  DESTINATION ${metro_config_dir})
